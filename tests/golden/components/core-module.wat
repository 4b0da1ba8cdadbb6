;; What compilers make before anybody makes a component of it.
(module (func (export "run")))
