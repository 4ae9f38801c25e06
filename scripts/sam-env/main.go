// Command sam-env writes the environment variables with which the SAM CLI serves the API. They are those of a template,
// with a random webhook credential. It also prints a command that posts a webhook with the credential.
//
// The completion keys are random, too. They stay the same as long as the file exists, because make sam-process makes
// the tokens that make sam-api verifies.
package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("usage: sam-env TEMPLATE FILE")
	}
	token, err := write(os.Args[1], os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("curl -s http://127.0.0.1:3000/vapi -H 'Authorization: Bearer %s' "+
		"-H 'Content-Type: application/json' -d @events/vapi/tool-calls.json\n", token)
}

type environment struct{ Parameters map[string]string }

func write(template, file string) (token string, err error) {
	env, err := read(template)
	if err != nil {
		return "", err
	}
	token = rand.Text()
	env.Parameters["WEBHOOK_AUTH"] = fmt.Sprintf(`{"type":"bearer","token":%q}`, token)
	env.Parameters["COMPLETION_KEYS"] = fmt.Sprintf(`{"current":%q}`, rand.Text()+rand.Text())
	switch earlier, err := read(file); {
	case err == nil:
		env.Parameters["COMPLETION_KEYS"] = earlier.Parameters["COMPLETION_KEYS"]
	case !errors.Is(err, fs.ErrNotExist):
		return "", err
	}
	text, err := json.MarshalIndent(env, "", "  ")
	if err != nil {
		return "", err
	}
	// An existing file keeps its mode, so it is made again.
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return token, os.WriteFile(file, text, 0o600)
}

func read(file string) (env environment, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return env, err
	}
	if err := json.Unmarshal(text, &env); err != nil {
		return env, fmt.Errorf("%s: %w", file, err)
	}
	return env, nil
}
