// Package faults breaks Ringback on purpose, and looks whether what is promised
// still holds. It is tests only: docs/faults.md says what they do, and
// `make faults` runs all of them.
package faults
