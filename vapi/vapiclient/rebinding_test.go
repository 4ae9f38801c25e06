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

// nameServer answers each question for a name with the addresses of its next answer. It repeats the
// last one.
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

// answer returns the response (RFC 1035, section 4.1) to a query with one question.
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
	binary.BigEndian.PutUint16(response[2:], 0x8180) // a response without an error
	binary.BigEndian.PutUint16(response[6:], uint16(count))
	binary.BigEndian.PutUint16(response[8:], 0)
	binary.BigEndian.PutUint16(response[10:], 0)
	return append(response, records...)
}

// TestNamesThatResolveInward resolves Vapi's host name to addresses of this machine. One of them
// stands for a public address. The address of the connection must decide, not an earlier
// resolution.
func TestNamesThatResolveInward(t *testing.T) {
	public, private := netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.1")
	if probe, err := net.Listen("tcp", public.String()+":0"); err != nil {
		t.Skipf("this system has only one loopback address: %v", err)
	} else {
		probe.Close()
	}
	var posts, intrusions atomic.Int32
	address, roots, _ := startVapiServer(t, public.String(), func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close") // so that the next post resolves the name again
		posts.Add(1)
	})
	private6 := netip.IPv6Loopback()
	for _, ip := range []netip.Addr{private, private6} {
		inner, err := net.Listen("tcp", netip.AddrPortFrom(ip, address.Port()).String())
		if err != nil {
			t.Logf("cannot listen on %s: %v", ip, err)
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
	const delivered, refused = vapiclient.Delivered, vapiclient.Misconfigured
	others := []netip.Addr{private, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("169.254.169.254"), private6}
	type answers = [][]netip.Addr
	for name, row := range map[string]struct {
		answers answers
		want    []vapiclient.Verdict
	}{
		"public":                     {answers{{public}}, []vapiclient.Verdict{delivered, delivered}},
		"private":                    {answers{{private}}, []vapiclient.Verdict{refused}},
		"rebound":                    {answers{{public}, {private}}, []vapiclient.Verdict{delivered, refused, refused}},
		"rebound to IPv6":            {answers{{public}, {private6}}, []vapiclient.Verdict{delivered, refused}},
		"private before public":      {answers{{private, public}}, []vapiclient.Verdict{delivered}},
		"IPv6 private beside public": {answers{{private6, public}}, []vapiclient.Verdict{delivered}},
		"several private":            {answers{others}, []vapiclient.Verdict{refused}},
	} {
		t.Run(name, func(t *testing.T) {
			(&nameServer{answers: row.answers}).use(t)
			posts.Store(0)
			// The real resolution takes place; only the port differs.
			server := "x.vapi.ai:" + strconv.Itoa(int(address.Port()))
			c := mustControlClient(t, vapiclient.ControlConfig{}.WithTestServer(server, roots,
				ssrf.WithPorts(address.Port()), ssrf.WithAllowedV4Prefixes(netip.PrefixFrom(public, 32))))
			arrived := int32(0)
			for i, want := range row.want {
				receipt := c.Post(t.Context(), vapiControlURL, spoken)
				if receipt.Verdict != want {
					t.Errorf("post %d: %+v, want %s", i, receipt, want)
				}
				if want == delivered {
					arrived++
				}
			}
			if posts.Load() != arrived {
				t.Errorf("%d posts arrived, want %d", posts.Load(), arrived)
			}
		})
	}
	if n := intrusions.Load(); n != 0 {
		t.Errorf("%d connections were made to private addresses", n)
	}
}

// TestVapisOwnRedirectIsNotFollowed redirects from an allowed host to hosts that are allowed and to
// hosts that are not.
func TestVapisOwnRedirectIsNotFollowed(t *testing.T) {
	var followed atomic.Int32
	inner := loopbackControlURL(t, func(http.ResponseWriter, *http.Request) { followed.Add(1) })
	for _, target := range []string{
		inner, "https://169.254.169.254/latest/meta-data", "https://y.vapi.ai/other/control", "/other/control",
		"//evil.example/",
	} {
		for _, status := range []int{300, 301, 302, 303, 307, 308} {
			var posts atomic.Int32
			cfg, _ := vapiServer(t, func(w http.ResponseWriter, r *http.Request) {
				posts.Add(1)
				w.Header().Set("Location", target)
				w.Header().Set("Refresh", "0; url="+target)
				w.WriteHeader(status)
			})
			got := mustControlClient(t, cfg).Post(t.Context(), vapiControlURL, spoken)
			checkReceipt(t, got, vapiclient.Receipt{Verdict: vapiclient.Misconfigured, Status: status})
			if posts.Load() != 1 || followed.Load() != 0 {
				t.Errorf("%d to %s: %d posts, %d followed", status, target, posts.Load(), followed.Load())
			}
		}
	}
}
