package vapiclient_test

import (
	"context"
	"encoding/binary"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync/atomic"
	"testing"

	"code.dny.dev/ssrf"

	"github.com/ringback/ringback/vapi/vapiclient"
)

// nameServer answers every question about a name with the addresses of its next answer; the last one stays.
type nameServer struct {
	answers [][]netip.Addr
	asked   atomic.Int32 // for IPv4
}

// use makes the server the resolver of this process until the test ends.
func (s *nameServer) use(t *testing.T) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	previous := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
	t.Cleanup(func() {
		net.DefaultResolver = previous
		conn.Close()
	})
	go func() {
		question := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(question)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(s.answer(question[:n]), from)
		}
	}()
}

// answer makes a response (RFC 1035, section 4.1) of a query with one question.
func (s *nameServer) answer(query []byte) []byte {
	const header, typeA, typeAAAA = 12, 1, 28
	end := header
	for query[end] != 0 { // the labels of the name
		end += int(query[end]) + 1
	}
	kind := binary.BigEndian.Uint16(query[end+1:])
	end += 1 + 4
	round := int(s.asked.Load())
	if kind == typeA {
		round = int(s.asked.Add(1)) - 1
	}
	var records []byte
	count := 0
	for _, address := range s.answers[min(round, len(s.answers)-1)] {
		if address.Is4() != (kind == typeA) || !address.Is4() && kind != typeAAAA {
			continue
		}
		data := address.AsSlice()
		records = append(records, 0xc0, header) // the name of the question
		records = binary.BigEndian.AppendUint16(records, kind)
		records = append(records, 0, 1, 0, 0, 0, 0, 0, byte(len(data))) // IN, no time to live
		records = append(records, data...)
		count++
	}
	response := append([]byte(nil), query[:end]...)
	binary.BigEndian.PutUint16(response[2:], 0x8180) // a response, without an error
	binary.BigEndian.PutUint16(response[6:], uint16(count))
	binary.BigEndian.PutUint16(response[8:], 0)
	binary.BigEndian.PutUint16(response[10:], 0)
	return append(response, records...)
}

// TestNamesThatResolveInward has a name of Vapi's resolve to addresses of this machine, one of which stands for a public
// one: what counts is the address that is connected to, and not what the name meant a moment ago.
func TestNamesThatResolveInward(t *testing.T) {
	public, private := netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.1")
	if probe, err := net.Listen("tcp", public.String()+":0"); err != nil {
		t.Skipf("this system has one loopback address alone: %v", err)
	} else {
		probe.Close()
	}
	var told atomic.Int32
	address, roots := startVapiServer(t, public.String(), func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close") // so that the next post asks for the name again
		told.Add(1)
	}, nil)
	var intrusions atomic.Int32
	for _, ip := range []netip.Addr{private, netip.IPv6Loopback()} {
		inner, err := net.Listen("tcp", netip.AddrPortFrom(ip, address.Port()).String())
		if err != nil {
			t.Logf("nobody listens on %s: %v", ip, err)
			continue
		}
		t.Cleanup(func() { inner.Close() })
		go func() {
			for {
				conn, err := inner.Accept()
				if err != nil {
					return
				}
				intrusions.Add(1)
				conn.Close()
			}
		}()
	}
	for name, row := range map[string]struct {
		answers [][]netip.Addr
		want    []vapiclient.Verdict
	}{
		"public":                     {[][]netip.Addr{{public}}, []vapiclient.Verdict{vapiclient.Delivered, vapiclient.Delivered}},
		"private":                    {[][]netip.Addr{{private}}, []vapiclient.Verdict{vapiclient.Misconfigured}},
		"rebound":                    {[][]netip.Addr{{public}, {private}}, []vapiclient.Verdict{vapiclient.Delivered, vapiclient.Misconfigured, vapiclient.Misconfigured}},
		"rebound to IPv6":            {[][]netip.Addr{{public}, {netip.IPv6Loopback()}}, []vapiclient.Verdict{vapiclient.Delivered, vapiclient.Misconfigured}},
		"private before public":      {[][]netip.Addr{{private, public}}, []vapiclient.Verdict{vapiclient.Delivered}},
		"IPv6 private beside public": {[][]netip.Addr{{netip.IPv6Loopback(), public}}, []vapiclient.Verdict{vapiclient.Delivered}},
		"several private":            {[][]netip.Addr{{private, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("169.254.169.254"), netip.IPv6Loopback()}}, []vapiclient.Verdict{vapiclient.Misconfigured}},
	} {
		t.Run(name, func(t *testing.T) {
			(&nameServer{answers: row.answers}).use(t)
			told.Store(0)
			// The name is resolved; only the port is another.
			c := mustControlClient(t, vapiclient.ControlConfig{}.WithTestServer("x.vapi.ai:"+strconv.Itoa(int(address.Port())), roots,
				ssrf.WithPorts(address.Port()), ssrf.WithAllowedV4Prefixes(netip.PrefixFrom(public, 32))))
			delivered := int32(0)
			for i, want := range row.want {
				receipt := c.Post(t.Context(), vapiControlURL, spoken)
				if receipt.Verdict != want {
					t.Errorf("post %d: %+v, want %s", i, receipt, want)
				}
				if want == vapiclient.Delivered {
					delivered++
				}
			}
			if told.Load() != delivered {
				t.Errorf("%d posts arrived, want %d", told.Load(), delivered)
			}
		})
	}
	if n := intrusions.Load(); n != 0 {
		t.Errorf("%d connections were made to private addresses", n)
	}
}

// TestVapisOwnRedirectIsNotFollowed is about a redirect from a host that is allowed to one that is not, and to one that is.
func TestVapisOwnRedirectIsNotFollowed(t *testing.T) {
	var followed atomic.Int32
	inner := loopbackControlURL(t, func(http.ResponseWriter, *http.Request) { followed.Add(1) })
	for _, target := range []string{inner, "https://169.254.169.254/latest/meta-data", "https://y.vapi.ai/other/control", "/other/control", "//evil.example/"} {
		for _, status := range []int{300, 301, 302, 303, 307, 308} {
			var posts atomic.Int32
			c := mustControlClient(t, vapiServer(t, func(w http.ResponseWriter, r *http.Request) {
				posts.Add(1)
				w.Header().Set("Location", target)
				w.Header().Set("Refresh", "0; url="+target)
				w.WriteHeader(status)
			}, nil))
			checkReceipt(t, c.Post(t.Context(), vapiControlURL, spoken), vapiclient.Receipt{Verdict: vapiclient.Misconfigured, Status: status})
			if posts.Load() != 1 || followed.Load() != 0 {
				t.Errorf("%d to %s: %d posts, %d followed", status, target, posts.Load(), followed.Load())
			}
		}
	}
}
