// Package stacktest simulates the part of AWS Secrets Manager that package stack uses.
package stacktest

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// Secret is a secret with versions. Create one with [NewSecret].
type Secret struct {
	mu       sync.Mutex
	versions map[string]string // texts, by id
	labels   map[string]string // ids of versions, by label
	denied   map[string]bool   // actions
	lost     map[string]bool   // actions whose answer is lost
	requests []string          // actions
}

// NewSecret returns a secret with a text.
func NewSecret(text string) *Secret {
	return &Secret{
		versions: map[string]string{"v-1": text}, labels: map[string]string{"AWSCURRENT": "v-1"},
		denied: map[string]bool{}, lost: map[string]bool{},
	}
}

// Deny refuses an action, such as PutSecretValue.
func (s *Secret) Deny(action string) { s.denied[action] = true }

// Lose performs an action, and answers the next one with an error all the same.
func (s *Secret) Lose(action string) { s.lost[action] = true }

// Put stores a text, as another client would.
func (s *Secret) Put(id, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.versions[id], s.labels["AWSCURRENT"] = text, id
}

// Label adds a label to the current version.
func (s *Secret) Label(label string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.labels[label] = s.labels["AWSCURRENT"]
}

// Current returns the current text and its labels, sorted.
func (s *Secret) Current() (text string, labels []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.labels["AWSCURRENT"]
	return s.versions[id], s.labelsOf(id)
}

func (s *Secret) labelsOf(id string) []string {
	return slices.Sorted(func(yield func(string) bool) {
		for label, of := range maps.All(s.labels) {
			if of == id && !yield(label) {
				return
			}
		}
	})
}

// Requests returns the actions of all requests.
func (s *Secret) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Serves reports whether a request is for Secrets Manager.
func Serves(r *http.Request) bool {
	return strings.HasPrefix(r.Header.Get("X-Amz-Target"), "secretsmanager.")
}

// ServeHTTP serves the API.
func (s *Secret) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	action := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "secretsmanager.")
	var in struct {
		SecretString, ClientRequestToken                   string
		VersionStages                                      []string
		VersionStage, MoveToVersionId, RemoveFromVersionId string
	}
	body, _ := io.ReadAll(r.Body)
	_ = json.Unmarshal(body, &in)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, action)
	var answer any = map[string]any{}
	failure := ""
	switch at, exists := s.labels[in.VersionStage]; {
	case s.denied[action]:
		failure = "AccessDeniedException"
	case action == "GetSecretValue":
		id := s.labels["AWSCURRENT"]
		answer = map[string]any{"SecretString": s.versions[id], "VersionId": id, "VersionStages": s.labelsOf(id)}
	case action == "DescribeSecret":
		ids := map[string][]string{}
		for id := range s.versions {
			if labels := s.labelsOf(id); len(labels) > 0 {
				ids[id] = labels
			}
		}
		answer = map[string]any{"VersionIdsToStages": ids}
	case action == "PutSecretValue":
		id := in.ClientRequestToken
		if text, exists := s.versions[id]; exists && text != in.SecretString || len(id) < 32 || len(id) > 64 {
			failure = "ResourceExistsException"
			break
		}
		s.versions[id] = in.SecretString
		s.labels["AWSPREVIOUS"] = s.labels["AWSCURRENT"]
		for _, label := range in.VersionStages {
			s.labels[label] = id
		}
	case action == "UpdateSecretVersionStage":
		if exists && at != in.MoveToVersionId && at != in.RemoveFromVersionId {
			failure = "InvalidParameterException" // it must name the version that has the label
			break
		}
		s.labels[in.VersionStage] = in.MoveToVersionId
	default:
		failure = "UnknownOperationException"
	}
	if failure == "" && s.lost[action] {
		delete(s.lost, action)
		failure = "InternalFailure"
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	if failure != "" {
		w.WriteHeader(http.StatusBadRequest)
		answer = map[string]string{"__type": failure, "Message": "simulated"}
	}
	_ = json.NewEncoder(w).Encode(answer)
}
