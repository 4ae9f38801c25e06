package wiring

func init() { fingerprintIterations = 1 }
