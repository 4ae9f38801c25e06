package tools

import (
	"testing"

	"github.com/ringback/ringback/asynctool"
)

// The functions start, and the stack can be deployed, only with a valid set of tools.
func TestAll(t *testing.T) {
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := asynctool.NewSet(all...); err != nil {
		t.Fatal(err)
	}
}
