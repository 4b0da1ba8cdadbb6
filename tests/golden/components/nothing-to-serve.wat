;; A component without anything that plugind has a use for.
(component
  (instance $things)
  (export "acme:shelf/things@1.0.0" (instance $things)))
