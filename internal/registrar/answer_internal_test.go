// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vxsnd/internal/config"
	"vxsnd/internal/control"
	"vxsnd/internal/fdb"
	"vxsnd/internal/headend"
	"vxsnd/internal/underlay"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

func TestVerdicts(t *testing.T) {
	answer := func(v vxfld.Version, text string) []byte {
		return encode(t, v, &vxfld.Refresh{Holdtime: 90, VNIs: records(text)})
	}
	tests := []struct {
		name string
		b    []byte
		want verdict
		list string
	}{
		{"version 1", answer(vxfld.V1, "1 1 2"), verdictAnswer, "a/1[2]"},
		{"version 2", answer(vxfld.V2, "1 1 2"), verdictAnswer, "a/1[2]"},
		{"version 3", answer(vxfld.V3, "1 1 2"), verdictAnswer, "a/1[2]"},
		{"the whole table", answer(vxfld.V3, "9 7 8; 1 1 2; 5 3"), verdictAnswer, "a/1[2]"},
		{"no vni", answer(vxfld.V3, ""), verdictEmpty, ""},
		{"one vni without the own address", answer(vxfld.V3, "1 1 2; 2 3"), verdictAnswer, "a/1[2]"},
		{"all vnis without the own address", answer(vxfld.V3, "1 2; 2 3; 7 1"), verdictNoOwn, ""},
		{"unknown vnis", answer(vxfld.V3, "3 1 2; 4 1"), verdictUnknownVNI, ""},
		{"who cannot be a member", encode(t, vxfld.V3, &vxfld.Refresh{Holdtime: 90, VNIs: []vxfld.VNIMembers{
			{VNI: 1, Addrs: addrs("10.0.0.1", "0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "0.1.2.3", "10.0.0.2")},
		}}), verdictAnswer, "a/1[2]"},
		{"nothing", nil, verdictMalformed, ""},
		{"cut short", answer(vxfld.V2, "1 1 2")[:12], verdictMalformed, ""},
		{"of the future", []byte{4, 1, 0, 0}, verdictMalformed, ""},
		{"of an unknown type", []byte{3, 200}, verdictMalformed, ""},
		{"a table", encode(t, vxfld.V3, &vxfld.Sync{}), verdictNotRefresh, ""},
		{"a packet", encode(t, vxfld.V3, &vxfld.Proxy{Packet: make([]byte, 8)}), verdictNotRefresh, ""},
		{"a registration", encode(t, vxfld.V3, &vxfld.Refresh{Originator: true, VNIs: records("1 1 2")}), verdictRegistration, ""},
		{"a question", encode(t, vxfld.V3, &vxfld.Refresh{Response: vxfld.ResponseRequested, VNIs: records("1 1 2")}), verdictRegistration, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t, testConfig("10.0.0.100"), device("a", 1, ""), device("b", 2, ""))
				h.start()
				for range 2 {
					h.send("10.0.0.201", tt.b)
				}
				h.expect("verdict", h.counted(), tt.want.String()+"=2")
				h.expect("lists", h.lists.text(), tt.list)
				want := 0
				if tt.want != verdictAnswer && tt.want != verdictEmpty && tt.want != verdictUnknownVNI {
					want = 1
				}
				if got := h.logged("answer not believed"); got != want {
					t.Errorf("got %d warnings, want %d", got, want)
				}
			})
		})
	}
}

// Whom this machine knows to be something else than a VTEP is left out of lists.
func TestLeavesOut(t *testing.T) {
	tests := []struct {
		name  string
		named string
		own   string
		want  string
		out   uint64
	}{
		{"a service node of the vni", "10.0.0.100", "", "a/1[2]", 1},
		{"that of another vni", "10.0.0.101", "", "a/1[2 101]", 0},
		{"a peer of the service node", "10.0.0.202", "", "a/1[2]", 1},
		{"a broadcast address", "10.0.0.255", "", "a/1[2]", 1},
		{"everybody", "255.255.255.255", "", "a/1[2]", 1},
		{"a reserved address", "240.0.0.3", "", "a/1[2]", 1},
		{"a reserved address where they are in use", "240.0.0.3", "240.0.0.1", "a/1[2 3]", 0},
		{"this machine", "10.0.0.9", "", "a/1[2]", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := testConfig()
				c.AnswerFrom = config.AnswerFrom{Service: true}
				c.SvcnodePeers = []config.Peer{{Addr: addr("10.0.0.202")}}
				h := newHarness(t, c, device("a", 1, "10.0.0.100"), device("b", 2, "10.0.0.101"))
				h.addresses.broadcasts = map[netip.Addr]struct{}{addr("10.0.0.255"): {}}
				if tt.own != "" {
					h.addresses.first = append(h.addresses.first, addr(tt.own))
				}
				h.start()
				h.send("10.0.0.100", encode(t, vxfld.V3, &vxfld.Refresh{Holdtime: 90, VNIs: []vxfld.VNIMembers{
					{VNI: 1, Addrs: addrs("10.0.0.1", "10.0.0.2", tt.named)},
				}}))
				h.expect("lists", h.lists.text(), tt.want)
				if got := h.leftOut.Load(); got != tt.out {
					t.Errorf("got %d left out, want %d", got, tt.out)
				}
				if got := h.logged("answer names addresses that cannot be members: left out"); uint64(got) != tt.out {
					t.Errorf("got %d warnings, want %d", got, tt.out)
				}
			})
		})
	}
}

// Messages of deployed service nodes are answers if they are that.
func TestDeployedMessages(t *testing.T) {
	for _, v := range deployed(t) {
		m, err := vxfld.Parse(v.b)
		want := verdictMalformed
		var lists []vxfld.VNIMembers
		if err == nil {
			want = verdictNotRefresh
			if r, ok := m.Body.(*vxfld.Refresh); ok {
				want = verdictRegistration
				if !r.Originator && r.Response == vxfld.ResponseNone {
					want, lists = verdictAnswer, r.VNIs
				}
				if want == verdictAnswer && len(lists) == 0 {
					want = verdictEmpty
				}
			}
		}
		t.Run(v.name, func(t *testing.T) {
			c := testConfig("10.0.0.100")
			r, fake := asker(t, c, lists)
			r.handle(v.b, netip.MustParseAddrPort("10.0.0.100:10001"), time.Now())
			if got := r.verdicts[want].Load(); got != 1 {
				t.Errorf("got verdicts %s, want %s", (&harness{Registrar: r}).counted(), want)
			}
			for _, l := range lists {
				for _, a := range l.Addrs[min(1, len(l.Addrs)):] {
					key := headend.Key{Device: "d" + l.VNI.String(), Index: int(l.VNI) + 1000, VNI: l.VNI}
					if fdb.Usable(a) && a != l.Addrs[0] && !slices.Contains(fake.lists[key], a) {
						t.Errorf("vni %s: got %v, want %s among them", l.VNI, fake.lists[key], a)
					}
				}
			}
		})
	}
}

// asker returns a registrar that does not run, with a device for each VNI, whose
// local address is the first that the VNI names.
func asker(tb testing.TB, c config.Config, lists []vxfld.VNIMembers) (*Registrar, *fakeLists) {
	tb.Helper()
	r, err := New(c, nil)
	if err != nil {
		tb.Fatal(err)
	}
	fake := &fakeLists{lists: make(map[headend.Key][]netip.Addr)}
	r.lists = fake
	own := make(map[netip.Addr]struct{})
	var ds []underlay.Device
	for _, l := range lists {
		d := device("d"+l.VNI.String(), l.VNI, "")
		if len(l.Addrs) > 0 {
			d.Local = l.Addrs[0]
		}
		own[d.Local] = struct{}{}
		ds = append(ds, d)
	}
	// What is not one of this machine's cannot be registered; it need not be for
	// the test of others.
	p := makePlan(&inputs{Devices: ds, Own: own, Config: &c})
	r.enforce(p, nil, &c)
	return r, fake
}

// A message is one of the deployed suite.
type message struct {
	name string
	b    []byte
}

func deployed(tb testing.TB) []message {
	tb.Helper()
	text, err := os.ReadFile("../vxfld/testdata/vxfld.json")
	if err != nil {
		tb.Fatal(err)
	}
	var vectors []struct{ Name, Hex string }
	if err := json.Unmarshal(text, &vectors); err != nil {
		tb.Fatal(err)
	}
	var out []message
	for _, v := range vectors {
		b, err := hex.DecodeString(v.Hex)
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, message{v.Name, b})
	}
	return out
}

// Any datagram has exactly one verdict. Only an answer changes a list, and a list
// holds nobody who cannot be a member.
func FuzzAnswer(f *testing.F) {
	for _, m := range deployed(f) {
		f.Add(m.b)
	}
	f.Add(encode(f, vxfld.V3, &vxfld.Refresh{Holdtime: 90, Partial: true, VNIs: records("1 1 2; 2 1 3; 1 4")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := testConfig("10.0.0.100")
		r, lists := asker(t, c, []vxfld.VNIMembers{
			{VNI: 1, Addrs: addrs("10.0.0.1")}, {VNI: 2, Addrs: addrs("10.0.0.1")}, {VNI: vxlan.MaxVNI, Addrs: addrs("10.0.0.1")},
		})
		r.own = map[netip.Addr]struct{}{addr("10.0.0.1"): {}}
		r.handle(b, netip.MustParseAddrPort("10.0.0.100:10001"), time.Now())
		n := uint64(0)
		for v := range numVerdicts {
			n += r.verdicts[v].Load()
		}
		if n != 1 {
			t.Fatalf("got %d verdicts, want 1", n)
		}
		if len(lists.lists) > 0 && r.verdicts[verdictAnswer].Load() == 0 {
			t.Fatalf("got lists %v from what is no answer", lists.lists)
		}
		for k, l := range lists.lists {
			if !slices.IsSortedFunc(l, netip.Addr.Compare) || len(slices.Compact(slices.Clone(l))) != len(l) {
				t.Fatalf("list of %v: got %v, want it sorted and distinct", k, l)
			}
			for _, a := range l {
				if _, own := r.own[a]; own || !a.Is4() || !fdb.Usable(a) {
					t.Fatalf("list of %v: got %v", k, a)
				}
			}
		}
	})
}

func TestBelieves(t *testing.T) {
	prefix := netip.MustParsePrefix("192.0.2.0/24")
	tests := []struct {
		name string
		from config.AnswerFrom
		yes  string
		no   string
	}{
		{"any", config.AnswerFrom{Any: true}, "10.0.0.100 10.0.0.77 192.0.2.1", ""},
		{"service", config.AnswerFrom{Service: true}, "10.0.0.100 10.0.0.50 10.0.0.202 10.0.0.203", "10.0.0.77 192.0.2.1 10.0.0.99"},
		{"prefixes", config.AnswerFrom{Prefixes: []netip.Prefix{prefix}}, "192.0.2.1 192.0.2.255", "10.0.0.100 10.0.0.202"},
		{"both", config.AnswerFrom{Service: true, Prefixes: []netip.Prefix{prefix}}, "192.0.2.1 10.0.0.100 10.0.0.203", "10.0.0.77"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := testConfig()
				c.AnswerFrom, c.Svcnode = tt.from, addr("10.0.0.50")
				c.SvcnodePeers = []config.Peer{{Addr: addr("10.0.0.202")}, {Host: "peer.example"}}
				h := newHarness(t, c, device("a", 1, "10.0.0.100"))
				var n names
				n.Store("peer.example", "::ffff:10.0.0.203")
				h.peers.lookup = n.lookup
				h.start()
				count := 0
				for _, from := range strings.Fields(tt.no) {
					h.answer(from, "1 1 66")
					count++
				}
				if got := h.verdicts[verdictStranger].Load(); got != uint64(count) {
					t.Errorf("got %d strangers, want %d", got, count)
				}
				h.expect("strangers", h.lists.text(), "")
				for _, from := range strings.Fields(tt.yes) {
					h.answer(from, "1 1")
					h.answer(from, "1 1 2")
					h.expect(from, h.lists.text(), "a/1[2]")
				}
			})
		})
	}
}

// Strangers are shown, the newest up to a bound.
func TestShowsStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testConfig("10.0.0.100")
		c.AnswerFrom = config.AnswerFrom{Service: true}
		h := newHarness(t, c, device("a", 1, ""))
		h.start()
		for i := range 100 {
			for range i%2 + 1 {
				h.answer(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}).String(), "1 1 2")
			}
		}
		var s control.Registrar
		h.fill(&s, time.Now())
		if len(s.Warnings) != maxSenders || s.Warnings[1] != "192.0.2.85 sent 2 messages that answer_from does not believe, the last 0s ago" {
			t.Errorf("got warnings %q", s.Warnings)
		}
		if got := h.logged("answer not believed"); got != 1 {
			t.Errorf("got %d lines, want 1", got)
		}
	})
}
