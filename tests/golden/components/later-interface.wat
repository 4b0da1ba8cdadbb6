;; Exports an interface that a later host of the same version might know.
(component
  (instance $connection-handler)
  (export "plugind:plugin/connection-handler@0.1.3" (instance $connection-handler)))
