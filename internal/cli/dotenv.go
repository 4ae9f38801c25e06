package cli

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/joho/godotenv"
)

// environmentFile holds settings for this machine, which are not committed.
const environmentFile = ".env"

// fromFile are the variables that readEnvironment has set.
var fromFile = make(map[string]bool)

// withoutFile removes the variables of the file from an environment, for a program that reads the file itself.
func withoutFile(environment []string) []string {
	return slices.DeleteFunc(environment, func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return fromFile[name]
	})
}

// readEnvironment adds the variables of a file in the current folder to the environment. Those that are set take
// precedence. A variable without a value is not set, since the file may be a copy of one that lists the names.
func readEnvironment() error {
	variables, err := godotenv.Read(environmentFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if pathError, ok := errors.AsType[*fs.PathError](err); ok {
		return pathError
	}
	if err != nil { // it quotes the file, in which secrets are
		return errors.New("cannot read " + environmentFile + ": a line is not of the form NAME=value")
	}
	for name, value := range variables {
		if _, set := os.LookupEnv(name); set || value == "" {
			continue
		}
		if err := os.Setenv(name, value); err != nil {
			return errors.New("cannot read " + environmentFile + ": a name or a value is not valid in an environment")
		}
		fromFile[name] = true
	}
	return nil
}
