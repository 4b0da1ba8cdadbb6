;; Has the life of another version of the contract.
(component
  (instance $lifecycle)
  (export "plugind:plugin/lifecycle@0.2.0" (instance $lifecycle)))
