package ack

var StatusText = statusText
