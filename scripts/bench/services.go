package main

import (
	"crypto/md5"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// latency is how long AWS, and everything else that a function asks, takes for an answer.
const latency = time.Millisecond

// slowOrder and slowPost are how long the shop takes for an order, and a control URL for a post, if both are slow.
const slowOrder, slowPost = 200 * time.Millisecond, 100 * time.Millisecond

// services stands in for SQS, DynamoDB, the shop's orders and the control URLs. It keeps items, and ignores
// the conditions of writes, because nothing is concurrent here.
type services struct {
	mu    sync.Mutex
	sent  []string // the bodies of messages
	items map[string]json.RawMessage
	posts int // to control URLs
	slow  atomic.Bool
}

// take returns the messages that were sent since the last time.
func (s *services) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	sent := s.sent
	s.sent = nil
	return sent
}

// controlPosts returns how many messages were posted to control URLs.
func (s *services) controlPosts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.posts
}

// ServeHTTP serves the protocols of AWS, and the other services by their paths.
func (s *services) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the process has ended
	}
	order, post := strings.HasPrefix(r.URL.Path, "/orders/"), strings.HasSuffix(r.URL.Path, "/control")
	switch {
	case order && s.slow.Load():
		time.Sleep(slowOrder)
	case post && s.slow.Load():
		time.Sleep(slowPost)
	case r.Method != http.MethodGet || r.URL.Path != "/": // that one only opens a connection to SQS
		time.Sleep(latency)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	switch {
	case operation == "SendMessage":
		s.send(w, body)
	case operation == "SendMessageBatch":
		s.sendBatch(w, body)
	case operation == "ChangeMessageVisibilityBatch":
		s.hideBatch(w, body)
	case operation == "GetItem":
		var in struct {
			Key struct{ ID struct{ S string } }
		}
		if json.Unmarshal(body, &in) == nil && s.items[in.Key.ID.S] != nil {
			_, _ = fmt.Fprintf(w, `{"Item":%s}`, s.items[in.Key.ID.S])
			return
		}
		_, _ = io.WriteString(w, `{}`)
	case operation == "PutItem":
		var in struct{ Item json.RawMessage }
		var key struct{ ID struct{ S string } }
		if json.Unmarshal(body, &in) == nil && json.Unmarshal(in.Item, &key) == nil {
			s.items[key.ID.S] = in.Item
		}
		_, _ = io.WriteString(w, `{}`)
	case order:
		_, _ = io.WriteString(w, `{"status":"out_for_delivery"}`)
	case post:
		s.posts++
		_, _ = io.WriteString(w, `{}`)
	default:
		_, _ = io.WriteString(w, `{"Items":[]}`)
	}
}

// receipt is what SQS answers for a message.
type receipt struct {
	ID               string `json:"Id,omitempty"` // in a batch
	MessageID        string `json:"MessageId"`
	MD5OfMessageBody string
}

func (s *services) keep(id, body string) receipt {
	s.sent = append(s.sent, body)
	return receipt{id, "bench", fmt.Sprintf("%x", md5.Sum([]byte(body)))}
}

func (s *services) send(w http.ResponseWriter, body []byte) {
	var in struct{ MessageBody string }
	if err := json.Unmarshal(body, &in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_ = json.NewEncoder(w).Encode(s.keep("", in.MessageBody))
}

func (s *services) sendBatch(w http.ResponseWriter, body []byte) {
	var in struct {
		Entries []struct{ ID, MessageBody string }
	}
	if err := json.Unmarshal(body, &in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var out struct{ Successful []receipt }
	for _, e := range in.Entries {
		out.Successful = append(out.Successful, s.keep(e.ID, e.MessageBody))
	}
	_ = json.NewEncoder(w).Encode(out)
}

func (s *services) hideBatch(w http.ResponseWriter, body []byte) {
	var in struct{ Entries []struct{ ID string } }
	if err := json.Unmarshal(body, &in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	type entry struct {
		ID string `json:"Id"`
	}
	var out struct{ Successful []entry }
	for _, e := range in.Entries {
		out.Successful = append(out.Successful, entry(e))
	}
	_ = json.NewEncoder(w).Encode(out)
}
