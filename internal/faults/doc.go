// Package faults breaks Ringback on purpose and checks that its promises still hold.
// It contains only tests. docs/faults.md describes them, and `make faults` runs all of
// them.
package faults
