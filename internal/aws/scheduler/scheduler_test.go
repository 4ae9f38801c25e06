package scheduler_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awsscheduler "github.com/aws/aws-sdk-go-v2/service/scheduler"
	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/aws/function/functiontest"
	"github.com/ringback/ringback/internal/aws/scheduler"
	"github.com/ringback/ringback/internal/queue/scheduletest"
)

const (
	group = "ringback"
	role  = "arn:aws:iam::123456789012:role/schedules"
	jobs  = "arn:aws:sqs:eu-central-1:123456789012:jobs"
	dead  = "arn:aws:sqs:eu-central-1:123456789012:jobs-dead"
)

func TestContract(t *testing.T) {
	scheduletest.Run(t, func(t *testing.T, test func(t *testing.T, s scheduletest.Subject)) {
		service := newService()
		test(t, scheduletest.Subject{Scheduler: open(t, service), Now: service.clock, Pass: service.pass})
		if n := len(service.schedules); n != 0 {
			t.Errorf("%d schedules remain", n)
		}
	})
}

// TestRequests tests the complete requests to the service.
func TestRequests(t *testing.T) {
	service := newService()
	s := open(t, service)
	if err := s.At(t.Context(), "wake-1", service.now.Add(time.Hour), "{}"); err != nil {
		t.Fatal(err)
	}
	if err := s.Cancel(t.Context(), "wake-1"); err != nil {
		t.Fatal(err)
	}
	want := []request{
		{"POST", "/schedules/wake-1", "", map[string]any{
			"ActionAfterCompletion":      "DELETE",
			"ClientToken":                "a token",
			"FlexibleTimeWindow":         map[string]any{"Mode": "OFF"},
			"GroupName":                  group,
			"ScheduleExpression":         "at(2026-03-29T01:59:01)",
			"ScheduleExpressionTimezone": "UTC",
			"Target": map[string]any{
				"Arn": jobs, "RoleArn": role, "Input": "{}",
				"DeadLetterConfig": map[string]any{"Arn": dead},
				"RetryPolicy":      map[string]any{"MaximumEventAgeInSeconds": 86400.0, "MaximumRetryAttempts": 185.0},
			},
		}},
		{"DELETE", "/schedules/wake-1", group, nil},
	}
	// The token is random.
	if token, _ := service.requests[0].Body["ClientToken"].(string); token != "" {
		service.requests[0].Body["ClientToken"] = "a token"
	}
	if diff := cmp.Diff(want, service.requests); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// TestSoonest tests that no schedule is for a time that may have passed when the request
// arrives.
func TestSoonest(t *testing.T) {
	for ahead, want := range map[time.Duration]string{
		-24 * time.Hour:                        "at(2026-03-29T01:00:01)",
		0:                                      "at(2026-03-29T01:00:01)",
		time.Minute:                            "at(2026-03-29T01:00:01)",
		time.Minute + 500*time.Millisecond:     "at(2026-03-29T01:00:01)",
		time.Minute + 500*time.Millisecond + 1: "at(2026-03-29T01:00:02)",
		365 * 24 * time.Hour:                   "at(2027-03-29T00:59:01)",
	} {
		service := newService()
		if err := open(t, service).At(t.Context(), "a", service.now.Add(ahead), "x"); err != nil {
			t.Errorf("%s ahead: %v", ahead, err)
			continue
		}
		if got := service.requests[0].Body["ScheduleExpression"]; got != want {
			t.Errorf("%s ahead: %s, want %s", ahead, got, want)
		}
	}
}

// TestFailedRequests tests that requests are repeated, and that a repeat does no harm if
// only the answer of the service was lost.
func TestFailedRequests(t *testing.T) {
	for _, failure := range []string{"InternalServerException", "ThrottlingException", "answer lost"} {
		t.Run(failure, func(t *testing.T) {
			service := newService()
			s := open(t, service)
			at := service.now.Add(time.Hour)

			service.failure, service.failures = failure, 2
			if err := s.At(t.Context(), "a", at, "x"); err != nil {
				t.Error(err)
			}
			if n := len(service.requests); n != 3 {
				t.Errorf("%d requests, want 3", n)
			}
			if got := service.pass(24 * time.Hour); len(got) != 1 {
				t.Errorf("%d messages arrived, want 1", len(got))
			}

			if err := s.At(t.Context(), "b", service.now.Add(time.Hour), "x"); err != nil {
				t.Error(err)
			}
			service.failures = 2
			if err := s.Cancel(t.Context(), "b"); err != nil {
				t.Error(err)
			}
			if got := service.pass(24 * time.Hour); len(got) != 0 {
				t.Errorf("%d messages arrived from cancelled schedules", len(got))
			}

			service.failures = 100
			for what, err := range map[string]error{
				"At":     s.At(t.Context(), "wake-7", service.now.Add(time.Hour), "private"),
				"Cancel": s.Cancel(t.Context(), "wake-7"),
			} {
				if err == nil || !strings.Contains(err.Error(), "wake-7") || !strings.Contains(err.Error(), group) {
					t.Errorf("%s: error %v, want one that names the schedule and its group", what, err)
				}
				if err != nil && strings.Contains(err.Error(), "private") {
					t.Errorf("%s: the error contains the message: %v", what, err)
				}
			}
		})
	}
}

// TestRefused tests that At only ignores that the schedule exists, and Cancel only that
// it does not.
func TestRefused(t *testing.T) {
	for code, row := range map[string]struct {
		status     int
		at, cancel bool // whether it fails
	}{
		"ConflictException":             {status: http.StatusConflict, cancel: true},
		"ResourceNotFoundException":     {status: http.StatusNotFound, at: true},
		"ValidationException":           {status: http.StatusBadRequest, at: true, cancel: true},
		"AccessDeniedException":         {status: http.StatusForbidden, at: true, cancel: true},
		"ServiceQuotaExceededException": {status: http.StatusPaymentRequired, at: true, cancel: true},
	} {
		t.Run(code, func(t *testing.T) {
			s := open(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fail(w, row.status, code) }))
			if err := s.At(t.Context(), "a", time.Now().Add(time.Hour), "x"); (err != nil) != row.at {
				t.Errorf("At: error %v, want an error: %t", err, row.at)
			}
			if err := s.Cancel(t.Context(), "a"); (err != nil) != row.cancel {
				t.Errorf("Cancel: error %v, want an error: %t", err, row.cancel)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	full := scheduler.Config{
		Client: &awsscheduler.Client{}, Group: group, RoleARN: role, QueueARN: jobs, DeadLetterARN: dead,
	}
	if _, err := scheduler.New(full); err != nil {
		t.Error(err)
	}
	for says, change := range map[string]func(*scheduler.Config){
		"Client is nil":          func(c *scheduler.Config) { c.Client = nil },
		"Group is empty":         func(c *scheduler.Config) { c.Group = "" },
		"RoleARN is empty":       func(c *scheduler.Config) { c.RoleARN = "" },
		"QueueARN is empty":      func(c *scheduler.Config) { c.QueueARN = "" },
		"DeadLetterARN is empty": func(c *scheduler.Config) { c.DeadLetterARN = "" },
	} {
		cfg := full
		change(&cfg)
		// New accepts empty ARNs, which are not needed to delete schedules.
		made, err := scheduler.New(cfg)
		if err == nil {
			err = made.At(t.Context(), "a", time.Now(), "x")
		}
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, want %q", err, says)
		}
	}
}

func open(t *testing.T, handler http.Handler) *scheduler.Scheduler {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	cloud := functiontest.Load(t, "SCHEDULER", server.URL)
	cfg := scheduler.Config{
		Client: awsscheduler.NewFromConfig(cloud.Scheduler(), func(o *awsscheduler.Options) {
			o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) {
				o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return 0, nil })
			})
		}),
		Group: group, RoleARN: role, QueueARN: jobs, DeadLetterARN: dead,
	}
	if service, ok := handler.(*service); ok {
		cfg.Now = service.clock
	}
	s, err := scheduler.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// service is the part of EventBridge Scheduler that the tests need: its REST protocol,
// the rules that a client can break (EventBridge Scheduler API reference, CreateSchedule
// and DeleteSchedule), and the sending. It has its own clock.
type service struct {
	mu        sync.Mutex
	now       time.Time
	schedules map[string]*schedule
	requests  []request
	failure   string // the error of the next failures requests
	failures  int
}

type schedule struct {
	at          time.Time
	body, token string
}

// request is a request. The group of a DELETE is in the URL.
type request struct {
	Method, Path, Group string
	Body                map[string]any
}

func newService() *service {
	return &service{
		// A minute later, daylight saving time starts in Berlin.
		now:       time.Date(2026, 3, 29, 0, 59, 0, 5e8, time.UTC),
		schedules: make(map[string]*schedule),
	}
}

func (s *service) clock() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// late is how long after its time a schedule sends, which is up to a minute (EventBridge
// Scheduler user guide, "Schedule types").
const late = 59 * time.Second

// pass sends the messages of the schedules whose time comes within d, and deletes these
// schedules.
func (s *service) pass(d time.Duration) (came []scheduletest.Arrival) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
	for name, k := range s.schedules {
		if at := k.at.Add(late); !at.After(s.now) {
			came = append(came, scheduletest.Arrival{Body: k.body, At: at})
			delete(s.schedules, name)
		}
	}
	slices.SortFunc(came, func(a, b scheduletest.Arrival) int { return a.At.Compare(b.At) })
	return came
}

var (
	validPath  = regexp.MustCompile(`^/schedules/([0-9a-zA-Z_.-]{1,64})$`)
	validToken = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)
)

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := request{Method: r.Method, Path: r.URL.Path, Group: r.URL.Query().Get("groupName")}
	body, _ := io.ReadAll(r.Body)
	if len(body) > 0 {
		_ = json.Unmarshal(body, &asked.Body)
	}
	s.requests = append(s.requests, asked)
	lost := false
	if s.failures > 0 {
		s.failures--
		switch s.failure {
		case "ThrottlingException":
			fail(w, http.StatusTooManyRequests, s.failure)
			return
		case "answer lost":
			lost = true
		default:
			fail(w, http.StatusInternalServerError, s.failure)
			return
		}
	}
	status, code := s.do(r, body)
	switch {
	case lost:
		fail(w, http.StatusBadGateway, "")
	case code != "":
		fail(w, status, code)
	case r.Method == http.MethodPost:
		_, _ = fmt.Fprintf(w, `{"ScheduleArn":"arn:aws:scheduler:eu-central-1:123456789012:schedule/%s/x"}`, group)
	}
}

// do answers a request.
func (s *service) do(r *http.Request, body []byte) (status int, code string) {
	authorization := r.Header.Get("Authorization")
	if !strings.HasPrefix(authorization, "AWS4-HMAC-SHA256 Credential=id/") ||
		!strings.Contains(authorization, "/eu-central-1/scheduler/aws4_request") {
		return http.StatusForbidden, "AccessDeniedException"
	}
	path := validPath.FindStringSubmatch(r.URL.Path)
	if path == nil {
		return http.StatusBadRequest, "ValidationException"
	}
	name := path[1]
	switch r.Method {
	case http.MethodPost:
		var in struct {
			GroupName, ScheduleExpression, ClientToken string
			FlexibleTimeWindow                         *struct{ Mode string }
			Target                                     *struct{ Arn, RoleArn, Input string }
		}
		if err := json.Unmarshal(body, &in); err != nil {
			return http.StatusBadRequest, "ValidationException"
		}
		at, err := time.Parse("at(2006-01-02T15:04:05)", in.ScheduleExpression)
		switch {
		case err != nil, !at.After(s.now), !validToken.MatchString(in.ClientToken),
			in.FlexibleTimeWindow == nil || in.FlexibleTimeWindow.Mode != "OFF",
			in.Target == nil || in.Target.Arn != jobs || in.Target.RoleArn != role || in.Target.Input == "":
			return http.StatusBadRequest, "ValidationException"
		case in.GroupName != group:
			return http.StatusNotFound, "ResourceNotFoundException"
		case s.schedules[name] == nil:
			s.schedules[name] = &schedule{at, in.Target.Input, in.ClientToken}
		case s.schedules[name].token != in.ClientToken:
			return http.StatusConflict, "ConflictException"
		}
	case http.MethodDelete:
		if r.URL.Query().Get("groupName") != group || s.schedules[name] == nil {
			return http.StatusNotFound, "ResourceNotFoundException"
		}
		delete(s.schedules, name)
	default:
		return http.StatusMethodNotAllowed, "ValidationException"
	}
	return http.StatusOK, ""
}

func fail(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/json")
	if code != "" {
		w.Header().Set("X-Amzn-ErrorType", code)
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, `{"Message":"refused"}`)
}
