;; Says that it has a life, and has none.
(component
  (instance $lifecycle)
  (export "plugind:plugin/lifecycle@0.1.0" (instance $lifecycle)))
