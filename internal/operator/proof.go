package operator

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// ProofPath is the path at which a local run proves that it has its token.
const ProofPath = "/proof" // ?nonce=…

// ErrUnproven is the error of a request to a program that has not proven that it is the local run of this user. Nothing
// of the request was sent.
var ErrUnproven = errors.New("the program at this address has not proven that it is your local run")

// ProofHandler serves the proof that this program has a token, which it does not reveal. It answers 404 to the same
// programs as [Handler]. Every other program on this machine may ask.
func ProofHandler(token string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		if !ok || !fromHere(r) {
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, proof(token, machine(), at.String(), r.URL.Query().Get("nonce")))
	})
}

// ProvenTransport returns a transport for requests to the local run that has a token. It sends a request only on a
// connection on which the run has proven that it has the token. Otherwise, the error is [ErrUnproven]. It uses no
// proxy. Without a token, no program can prove anything.
func ProvenTransport(token string) *http.Transport {
	return &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			if !proves(conn, token) {
				conn.Close()
				return nil, fmt.Errorf("%s: %w", addr, ErrUnproven)
			}
			return conn, nil
		},
	}
}

// proofTime bounds how long a proof takes. A local run needs a moment.
const proofTime = 10 * time.Second

// maxProof bounds the answer of a program that may not be a local run, in bytes.
const maxProof = 4 << 10

// proves reports whether the program at the other end of a connection proves that it has a token.
func proves(conn net.Conn, token string) bool {
	at, nonce := conn.RemoteAddr().String(), rand.Text()
	u := url.URL{Scheme: "http", Host: at, Path: ProofPath, RawQuery: url.Values{"nonce": {nonce}}.Encode()}
	request, err := http.NewRequest(http.MethodGet, u.String(), nil)
	if err != nil || token == "" {
		return false
	}
	if err := errors.Join(conn.SetDeadline(time.Now().Add(proofTime)), request.Write(conn)); err != nil {
		return false
	}
	answers := bufio.NewReader(io.LimitReader(conn, maxProof))
	response, err := http.ReadResponse(answers, request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	// What follows the answer would be the answer to the next request.
	if err != nil || response.StatusCode != http.StatusOK || response.Close || answers.Buffered() > 0 {
		return false
	}
	return hmac.Equal(answer, []byte(proof(token, machine(), at, nonce))) && conn.SetDeadline(time.Time{}) == nil
}

// proof returns what a program can compute only if it has the token. It is for one connection: a program at another
// address, or on another machine with the same folders, cannot pass it on. The other end chooses the nonce, so it
// comes last.
func proof(token, machine, at, nonce string) string {
	mac := hmac.New(sha256.New, []byte(token))
	_, _ = io.WriteString(mac, strings.Join([]string{"ringback proof", machine, at, nonce}, "\n"))
	return hex.EncodeToString(mac.Sum(nil))
}

// machine returns what distinguishes this machine from others. A container on Linux is a part of its host.
func machine() string {
	if id, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		return strings.TrimSpace(string(id))
	}
	name, _ := os.Hostname()
	return name
}
