required = true
