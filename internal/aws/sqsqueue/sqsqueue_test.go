package sqsqueue_test

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/internal/aws/function/functiontest"
	"github.com/ringback/ringback/internal/aws/sqsqueue"
	"github.com/ringback/ringback/internal/queue"
	"github.com/ringback/ringback/internal/queue/queuetest"
)

const queueURL = "https://sqs.eu-central-1.amazonaws.com/123456789012/jobs"

func TestContract(t *testing.T) {
	queuetest.Run(t, func(t *testing.T, test func(t *testing.T, s queuetest.Subject)) {
		service := &service{}
		q := open(t, service)
		test(t, queuetest.Subject{
			Queue:   q,
			Queued:  func() []queue.Message { return service.queued },
			Receive: func() string { return service.receive() },
			Hidden:  func(receipt string) time.Duration { return time.Duration(service.hidden[receipt]) * time.Second },
		})
	})
}

func TestFewRequests(t *testing.T) {
	for _, row := range []struct{ messages, size, requests int }{
		{0, 0, 0},
		{1, 1, 1},
		{10, 1, 1},
		{11, 1, 2},
		{128, 1, 13},
		{4, queue.MaxMessage / 4, 1},
		{4, queue.MaxMessage/4 + 1, 2},
		{10, 300 << 10, 4},
		{2, queue.MaxMessage, 2},
	} {
		t.Run(fmt.Sprintf("%d of %d bytes", row.messages, row.size), func(t *testing.T) {
			service := &service{}
			messages := make([]queue.Message, row.messages)
			for i := range messages {
				messages[i].Body = strings.Repeat("x", row.size)
			}
			if err := errors.Join(open(t, service).Send(t.Context(), messages)...); err != nil {
				t.Fatal(err)
			}
			if service.requests != row.requests {
				t.Errorf("%d requests, want %d", service.requests, row.requests)
			}
		})
	}
}

// TestPartialFailures tests messages that fail although their batch succeeds.
func TestPartialFailures(t *testing.T) {
	down, invalid := &refusal{"InternalError", false}, &refusal{"InvalidMessageContents", true}
	all := make(map[string][]*refusal)
	for i := range 12 {
		all[fmt.Sprint(i)] = []*refusal{down}
	}
	for name, row := range map[string]struct {
		refusals map[string][]*refusal // by body, for one try after the other
		failed   []string              // what Send returns an error for
		requests int
	}{
		"none":      {nil, nil, 2},
		"one, once": {map[string][]*refusal{"3": {down}}, nil, 3},
		// They share a request.
		"some of each batch, once":    {map[string][]*refusal{"3": {down}, "7": {down}, "11": {down}}, nil, 3},
		"one, twice":                  {map[string][]*refusal{"0": {down, down}}, nil, 4},
		"one, always":                 {map[string][]*refusal{"11": {down, down, down, down}}, []string{"11"}, 4},
		"all, once":                   {all, nil, 4},
		"invalid":                     {map[string][]*refusal{"5": {invalid, invalid}}, []string{"5"}, 2},
		"invalid, on its second try":  {map[string][]*refusal{"5": {down, invalid, invalid}}, []string{"5"}, 3},
		"not mentioned in the answer": {map[string][]*refusal{"2": {{}, {}}, "10": {{}, {}}}, []string{"2", "10"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			tries := make(map[string]int)
			service := &service{refuse: func(body string) *refusal {
				tries[body]++
				if refusals := row.refusals[body]; tries[body] <= len(refusals) {
					return refusals[tries[body]-1]
				}
				return nil
			}}
			messages := make([]queue.Message, 12)
			for i := range messages {
				messages[i] = queue.Message{Body: fmt.Sprint(i), Group: "call"}
			}
			var failed []string
			var want []queue.Message
			for i, err := range open(t, service).Send(t.Context(), messages) {
				if err != nil {
					failed = append(failed, messages[i].Body)
				} else {
					want = append(want, messages[i])
				}
			}
			if diff := cmp.Diff(row.failed, failed); diff != "" {
				t.Errorf("messages with an error (-want +got):\n%s", diff)
			}
			byBody := func(a, b queue.Message) int { return strings.Compare(a.Body, b.Body) }
			slices.SortFunc(want, byBody)
			slices.SortFunc(service.queued, byBody)
			if diff := cmp.Diff(want, service.queued); diff != "" {
				t.Errorf("queued (-reported +service):\n%s", diff)
			}
			if service.requests != row.requests {
				t.Errorf("%d requests, want %d", service.requests, row.requests)
			}
		})
	}
}

// TestStrangeAnswers tests that a message only counts as queued if the answer names it.
func TestStrangeAnswers(t *testing.T) {
	for name, row := range map[string]struct {
		answer string
		status int
	}{
		"an empty object": {answer: `{}`},
		"nothing":         {answer: ``},
		"null":            {answer: `null`},
		"unknown ids": {
			answer: `{"Successful":[{"Id":"7"},{"Id":"x"},{"Id":""},{"Id":"-1"}],` +
				`"Failed":[{"Id":"99","SenderFault":false,"Code":"x"},{}]}`,
		},
		"said to be both": {
			answer: `{"Successful":[{"Id":"0","MessageId":"m","MD5OfMessageBody":"9dd4e461268c8034f5c8564e155c67a6"}],` +
				`"Failed":[{"Id":"0","SenderFault":true,"Code":"x","Message":"y"}]}`,
		},
		"a wrong MD5": {
			answer: `{"Successful":[{"Id":"0","MessageId":"m","MD5OfMessageBody":"00000000000000000000000000000000"}]}`,
		},
		"not JSON": {answer: `<html>`},
		"no such queue": {
			answer: `{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"no such queue"}`, status: http.StatusBadRequest,
		},
		"an internal error": {
			answer: `{"__type":"com.amazonaws.sqs#InternalError","message":"broken"}`, status: http.StatusInternalServerError,
		},
		"a gateway's page": {answer: `<html>bad gateway</html>`, status: http.StatusBadGateway},
	} {
		t.Run(name, func(t *testing.T) {
			q := open(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/x-amz-json-1.0")
				if row.status != 0 {
					w.WriteHeader(row.status)
				}
				_, _ = w.Write([]byte(row.answer))
			}))
			if errs := q.Send(t.Context(), []queue.Message{{Body: "x"}}); len(errs) != 1 || errs[0] == nil {
				t.Errorf("errors %v, want one error", errs)
			}
		})
	}
}

// TestFailedRequests tests that the client repeats a request that fails as a whole. If
// that does not help, only the request's own messages fail.
func TestFailedRequests(t *testing.T) {
	service := &service{down: 2}
	if err := errors.Join(open(t, service).Send(t.Context(), []queue.Message{{Body: "a"}, {Body: "b"}})...); err != nil {
		t.Errorf("two failed requests: %v", err)
	}
	if len(service.queued) != 2 || service.requests != 3 {
		t.Errorf("%d messages were queued with %d requests, want 2 with 3", len(service.queued), service.requests)
	}

	service.down, service.queued = 3, nil
	messages := make([]queue.Message, 12)
	for i := range messages {
		messages[i].Body = fmt.Sprint(i)
	}
	for i, err := range open(t, service).Send(t.Context(), messages) {
		if (err != nil) != (i < 10) {
			t.Errorf("message %d: error %v, want an error: %t", i, err, i < 10)
		}
	}
	if len(service.queued) != 2 {
		t.Errorf("%d messages were queued, want the last 2", len(service.queued))
	}
}

func TestChangeVisibilityFails(t *testing.T) {
	service := &service{down: 100}
	err := open(t, service).ChangeVisibility(t.Context(), "receipt", time.Second)
	if err == nil || !strings.Contains(err.Error(), queueURL) {
		t.Errorf("error %v, want one that names the queue", err)
	}
}

// TestVisibilitiesTogether changes the visibility of many messages at the same time. They share requests, and each has
// an error of its own.
func TestVisibilitiesTogether(t *testing.T) {
	const many = 25
	s := &service{hidden: make(map[string]int)}
	for i := range many {
		if i != 7 { // SQS does not know the receipt
			s.hidden[fmt.Sprint(i)] = -1
		}
	}
	asked := make(map[string]int) // how often for one
	s.refuse = func(receipt string) *refusal {
		asked[receipt]++
		switch {
		case receipt == "3" && asked[receipt] < 3, receipt == "4":
			return &refusal{"InternalError", false}
		case receipt == "5":
			return &refusal{} // the answer does not mention it
		}
		return nil
	}
	q := open(t, s)
	leaving, leave := context.WithCancel(t.Context())
	sqsqueue.Gather(t, func() {
		for q.Waiting() < many {
			time.Sleep(time.Millisecond)
		}
		leave()
	})
	var all sync.WaitGroup
	var errs [many]error
	for i := range many {
		all.Go(func() {
			ctx := t.Context()
			if i == 9 {
				ctx = leaving
			}
			errs[i] = q.ChangeVisibility(ctx, fmt.Sprint(i), time.Duration(i)*time.Second)
		})
	}
	all.Wait()
	for i, err := range errs {
		failed := i == 4 || i == 5 || i == 7
		if i != 9 && (err != nil) != failed || i == 9 && err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("the error of %d is %v", i, err)
		}
		if seconds := s.hidden[fmt.Sprint(i)]; !failed && i != 9 && seconds != i {
			t.Errorf("%d is hidden for %d s", i, seconds)
		}
	}
	if asked["3"] != 3 || asked["4"] != 3 || asked["7"] != 1 {
		t.Errorf("SQS was asked for %v", asked)
	}
	// Three requests, and two repeats for each one with a message that SQS fails to change.
	if s.requests > 3+2*3 {
		t.Errorf("%d requests", s.requests)
	}

	sqsqueue.Gather(t, func() {})
	s.requests = 0
	if err := q.ChangeVisibility(t.Context(), "1", time.Minute); err != nil || s.hidden["1"] != 60 || s.requests != 1 {
		t.Errorf("later, it is hidden for %d s with %d requests, %v", s.hidden["1"], s.requests, err)
	}
}

// TestVisibilityGivenUp changes two visibilities with one request. The caller of the first one gives up before SQS has
// changed it: the next request is without it.
func TestVisibilityGivenUp(t *testing.T) {
	for name, limit := range map[string]time.Duration{"at its deadline": 100 * time.Millisecond, "before": time.Minute} {
		t.Run(name, func(t *testing.T) {
			hangs, asked := limit < time.Minute, 0
			s := &service{hidden: map[string]int{"given up": -1, "kept": -1}, refuse: func(string) *refusal {
				if asked++; asked <= 2 && !hangs {
					return &refusal{"InternalError", false}
				}
				return nil
			}}
			ctx, giveUp := context.WithTimeout(t.Context(), limit)
			defer giveUp()
			var requests atomic.Int32
			q := open(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if requests.Add(1) == 1 && hangs {
					_, _ = io.Copy(io.Discard, r.Body) // only then the end of the connection is noticed
					<-r.Context().Done()
					return
				}
				giveUp()
				s.ServeHTTP(w, r)
			}))
			sqsqueue.Gather(t, func() {
				for q.Waiting() < 2 {
					time.Sleep(time.Millisecond)
				}
			})
			var both sync.WaitGroup
			var givenUp, kept error
			both.Go(func() { givenUp = q.ChangeVisibility(ctx, "given up", time.Minute) })
			both.Go(func() { kept = q.ChangeVisibility(t.Context(), "kept", time.Minute) })
			both.Wait()
			if givenUp == nil || kept != nil {
				t.Errorf("the errors are %v and %v", givenUp, kept)
			}
			if s.hidden["given up"] != -1 || s.hidden["kept"] != 60 {
				t.Errorf("hidden: %v", s.hidden)
			}
		})
	}
}

func open(t *testing.T, handler http.Handler) *sqsqueue.Queue {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	cloud := functiontest.Load(t, "SQS", server.URL)
	return sqsqueue.New(sqs.NewFromConfig(cloud.SQS(), func(o *sqs.Options) {
		o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) {
			o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return 0, nil })
		})
	}), queueURL)
}

// refusal is why SQS refuses a message. The zero value means that the answer does not
// mention the message.
type refusal struct {
	code        string
	senderFault bool
}

// service is the part of Amazon SQS that the tests need: its JSON protocol, and the
// rules that a sender can break (Amazon SQS API reference).
type service struct {
	refuse func(body string) *refusal // the body or the receipt of a message; nil refuses none
	down   int                        // how many requests fail with HTTP 500

	mu       sync.Mutex
	requests int
	queued   []queue.Message
	hidden   map[string]int // receipt handle -> visibility timeout in seconds
}

func (s *service) receive() string {
	s.hidden = map[string]int{"receipt": 30}
	return "receipt"
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	if s.down > 0 {
		s.down--
		fail(w, http.StatusInternalServerError, "InternalError")
		return
	}
	if r.Method != http.MethodPost ||
		!strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=id/") {
		fail(w, http.StatusForbidden, "AccessDenied")
		return
	}
	var in struct {
		QueueUrl string
		Entries  []struct {
			Id, MessageBody   string
			MessageGroupId    *string
			DelaySeconds      int
			ReceiptHandle     string
			VisibilityTimeout *int
		}
		ReceiptHandle     string
		VisibilityTimeout *int
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.QueueUrl != queueURL {
		fail(w, http.StatusBadRequest, "QueueDoesNotExist")
		return
	}
	type success struct{ Id, MessageId, MD5OfMessageBody string }
	type failure struct {
		Id, Code, Message string
		SenderFault       bool
	}
	var out struct {
		Successful []success
		Failed     []failure
	}
	hide := func(receipt string, seconds *int) (code string) {
		if _, ok := s.hidden[receipt]; !ok {
			return "ReceiptHandleIsInvalid"
		}
		if seconds == nil || *seconds < 0 || *seconds > 43200 {
			return "InvalidParameterValue"
		}
		s.hidden[receipt] = *seconds
		return ""
	}
	switch target := r.Header.Get("X-Amz-Target"); target {
	case "AmazonSQS.SendMessageBatch":
		size, ids := 0, make(map[string]bool)
		for _, e := range in.Entries {
			size += len(e.MessageBody)
			ids[e.Id] = true
		}
		switch {
		case len(in.Entries) == 0:
			fail(w, http.StatusBadRequest, "EmptyBatchRequest")
			return
		case len(in.Entries) > 10:
			fail(w, http.StatusBadRequest, "TooManyEntriesInBatchRequest")
			return
		case size > 1<<20:
			fail(w, http.StatusBadRequest, "BatchRequestTooLong")
			return
		case len(ids) < len(in.Entries):
			fail(w, http.StatusBadRequest, "BatchEntryIdsNotDistinct")
			return
		}
		for _, e := range in.Entries {
			m := queue.Message{Body: e.MessageBody, Delay: time.Duration(e.DelaySeconds) * time.Second}
			var refused *refusal
			switch {
			case e.MessageBody == "":
				refused = &refusal{"MissingParameter", true}
			case e.MessageGroupId != nil && (*e.MessageGroupId == "" || strings.ContainsAny(*e.MessageGroupId, " \n")):
				refused = &refusal{"InvalidParameterValue", true}
			case e.DelaySeconds < 0 || e.DelaySeconds > 900:
				refused = &refusal{"InvalidParameterValue", true}
			case s.refuse != nil:
				refused = s.refuse(e.MessageBody)
			}
			switch {
			case refused == nil:
				if e.MessageGroupId != nil {
					m.Group = *e.MessageGroupId
				}
				s.queued = append(s.queued, m)
				sum := md5.Sum([]byte(e.MessageBody))
				out.Successful = append(out.Successful, success{e.Id, "m-" + e.Id, hex.EncodeToString(sum[:])})
			case refused.code != "":
				out.Failed = append(out.Failed, failure{e.Id, refused.code, "refused", refused.senderFault})
			}
		}
		_ = json.NewEncoder(w).Encode(out)
	case "AmazonSQS.ChangeMessageVisibility":
		if code := hide(in.ReceiptHandle, in.VisibilityTimeout); code != "" {
			fail(w, http.StatusBadRequest, code)
			return
		}
		_, _ = w.Write([]byte("{}"))
	case "AmazonSQS.ChangeMessageVisibilityBatch":
		for _, e := range in.Entries {
			refused := s.refuse(e.ReceiptHandle)
			if refused == nil {
				if code := hide(e.ReceiptHandle, e.VisibilityTimeout); code != "" {
					refused = &refusal{code, true}
				}
			}
			switch {
			case refused == nil:
				out.Successful = append(out.Successful, success{Id: e.Id})
			case refused.code != "":
				out.Failed = append(out.Failed, failure{e.Id, refused.code, "refused", refused.senderFault})
			}
		}
		_ = json.NewEncoder(w).Encode(out)
	default:
		fail(w, http.StatusBadRequest, "UnsupportedOperation")
	}
}

func fail(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"__type":"com.amazonaws.sqs#%s","message":"refused"}`, code)
}
