;; Exports an interface that a later host of the same version might know.
(component
  (instance $handover)
  (export "plugind:plugin/handover@0.1.3" (instance $handover)))
