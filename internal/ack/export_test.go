package ack

var (
	StatusText = statusText
	Number     = number
)
