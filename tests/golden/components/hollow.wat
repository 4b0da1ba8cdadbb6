;; Exports the lifecycle without its functions.
(component
  (instance $lifecycle)
  (export "plugind:plugin/lifecycle@0.1.0" (instance $lifecycle)))
