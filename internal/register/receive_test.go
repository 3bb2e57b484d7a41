// SPDX-License-Identifier: Apache-2.0

package register_test

import (
	"encoding/json"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/sirupsen/logrus"

	"vxsnd/internal/fdb"
	"vxsnd/internal/register"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// equateAddrs compares addresses by value.
var equateAddrs = cmpopts.EquateComparable(netip.Addr{})

// A vector is one message of the deployed suite: see package vxfld.
type vector struct {
	Name, Transport, Hex, Want string
	Decoded                    struct {
		Originator bool
		Holdtime   uint32
		Identifier uint64
		VTEPs      json.RawMessage `json:"vni_vteps"`
	}
	Type  any
	Taken *map[string][]string
}

// vectors reads the codec's vectors.
func vectors(tb testing.TB) []vector {
	tb.Helper()
	b, err := os.ReadFile("../vxfld/testdata/vxfld.json")
	if err != nil {
		tb.Fatal(err)
	}
	var vs []vector
	if err := json.Unmarshal(b, &vs); err != nil {
		tb.Fatal(err)
	}
	return vs
}

// Each message of the vectors, sent by a VTEP and by a peer, leaves in the
// table what the vector says, and what is refused changes nothing and is not
// answered.
func TestVectors(t *testing.T) {
	for _, tt := range vectors(t) {
		if tt.Transport != "udp" {
			continue
		}
		for _, from := range []netip.AddrPort{vtep2, peer} {
			t.Run(tt.Name+"/"+from.Addr().String(), func(t *testing.T) {
				onBench(t, nil, func(b *bench) {
					b.send(from, unhex(t, tt.Hex))
					version := unhex(t, tt.Hex)[0]
					taken := map[string][]string{}
					isRefresh := tt.Type == "REFRESH"
					if tt.Want != "refuse" && isRefresh && (tt.Decoded.Originator || from == peer && version != 1) {
						if err := json.Unmarshal(tt.Decoded.VTEPs, &taken); err != nil {
							t.Fatal(err)
						}
						if tt.Want == "partial" {
							taken = *tt.Taken
						}
					}
					source := fdb.Peer
					if tt.Decoded.Originator {
						source = fdb.Registration
					}
					holdtime := time.Duration(tt.Decoded.Holdtime) * time.Second
					var want []fdb.Update
					for vni, as := range taken {
						n, _ := strconv.Atoi(vni)
						for _, a := range as {
							want = append(want, fdb.Update{
								VNI: vxlan.VNI(n), Addr: addr(a), Identifier: tt.Decoded.Identifier, Source: source, Holdtime: holdtime,
							})
						}
					}
					byVNI := cmpopts.SortSlices(func(x, y fdb.Update) bool { return x.VNI < y.VNI })
					if diff := cmp.Diff(want, b.table.took(), equateAddrs, byVNI); diff != "" {
						t.Errorf("updates (-want +got):\n%s", diff)
					}
					if got := b.conn.sent(); tt.Want == "refuse" && len(got) > 0 {
						t.Errorf("got %d answers to a refused message, want none", len(got))
					}
				})
			})
		}
	}
}

func TestVerdicts(t *testing.T) {
	member := vxfld.Refresh{Holdtime: 90, VNIs: names(7, addr("10.0.0.1"))}
	with := func(r vxfld.Refresh, f func(r *vxfld.Refresh)) vxfld.Refresh { f(&r); return r }
	originated := with(member, func(r *vxfld.Refresh) { r.Originator = true })
	tests := []struct {
		name    string
		from    netip.AddrPort
		msg     []byte
		want    register.Verdict
		updates int
		answers int
	}{
		{"v1 registration is answered", vtep1, refresh(t, 1, originated), register.VerdictRegistration, 1, 1},
		{"v2 registration that does not ask", vtep1, refresh(t, 2, originated), register.VerdictRegistration, 1, 0},
		{"v3 registration that does not ask", vtep1, refresh(t, 3, originated), register.VerdictRegistration, 1, 0},
		{"v3 registration that asks", vtep1, refresh(t, 3, with(originated, func(r *vxfld.Refresh) { r.Response = 1 })), register.VerdictRegistration, 1, 1},
		{"v3 registration that asks for what does not exist", vtep1, refresh(t, 3, with(originated, func(r *vxfld.Refresh) { r.Response = 3 })), register.VerdictRegistration, 1, 0},
		{"registration of a peer keeps its source", peer, refresh(t, 3, originated), register.VerdictRegistration, 1, 0},
		{"v1 with originator cleared", vtep1, refresh(t, 1, member), register.VerdictNotPeer, 0, 0},
		{"v1 with originator cleared from a peer is its answer", peer, refresh(t, 1, member), register.VerdictAnswer, 0, 0},
		{"empty v1 with originator cleared from a peer", peer, unhex(t, "01010000005a"), register.VerdictAnswer, 0, 0},
		{"v2 relayed", peer, refresh(t, 2, member), register.VerdictRelayed, 1, 0},
		{"v3 relayed", peer, refresh(t, 3, member), register.VerdictRelayed, 1, 0},
		{"v3 relayed by a stranger", vtep1, refresh(t, 3, member), register.VerdictNotPeer, 0, 0},
		{"v3 relayed by a stranger who asks", vtep1, refresh(t, 3, with(member, func(r *vxfld.Refresh) { r.Response = 2 })), register.VerdictNotPeer, 0, 0},
		{"an answer", vtep1, refresh(t, 3, vxfld.Refresh{Holdtime: 90}), register.VerdictNotPeer, 0, 0},
		{"a question of a stranger", vtep1, refresh(t, 3, vxfld.Refresh{Response: 2}), register.VerdictQuestion, 0, 1},
		{"a v2 question of a stranger", vtep1, refresh(t, 2, vxfld.Refresh{Response: 1, VNIs: names(7)}), register.VerdictQuestion, 0, 1},
		{"a question of a peer", peer, refresh(t, 3, vxfld.Refresh{Response: 2}), register.VerdictQuestion, 0, 1},
		{"a question with originator set", vtep1, refresh(t, 3, vxfld.Refresh{Originator: true, Response: 2}), register.VerdictQuestion, 0, 1},
		{"own socket", service, refresh(t, 1, originated), register.VerdictOwn, 0, 0},
		{"own address, control port", netip.MustParseAddrPort("10.0.0.99:10001"), refresh(t, 1, originated), register.VerdictOwn, 0, 0},
		{"loopback, control port", netip.MustParseAddrPort("127.0.0.1:10001"), refresh(t, 1, originated), register.VerdictOwn, 0, 0},
		{"own address, another port", netip.MustParseAddrPort("10.0.0.99:40001"), refresh(t, 2, originated), register.VerdictRegistration, 1, 0},
		{"a 4-in-6 sender", netip.MustParseAddrPort("[::ffff:10.0.0.1]:10001"), refresh(t, 2, originated), register.VerdictSender, 0, 0},
		{"a 4-in-6 sender is no peer", netip.MustParseAddrPort("[::ffff:10.0.0.201]:10001"), refresh(t, 3, member), register.VerdictSender, 0, 0},
		{"a 4-in-6 sender is not answered", netip.MustParseAddrPort("[::ffff:10.0.0.1]:10001"), refresh(t, 3, vxfld.Refresh{Response: 2}), register.VerdictSender, 0, 0},
		{"port 0", netip.MustParseAddrPort("10.0.0.1:0"), refresh(t, 1, originated), register.VerdictSender, 0, 0},
		{"from nowhere", netip.AddrPort{}, refresh(t, 1, originated), register.VerdictSender, 0, 0},
		{"from 0.0.0.0", netip.MustParseAddrPort("0.0.0.0:1"), refresh(t, 1, originated), register.VerdictSender, 0, 0},
		{"from a group", netip.MustParseAddrPort("224.0.0.1:1"), refresh(t, 1, originated), register.VerdictSender, 0, 0},
		{"from everybody", netip.MustParseAddrPort("255.255.255.255:1"), refresh(t, 1, originated), register.VerdictSender, 0, 0},
		{"nothing", vtep1, nil, register.Malformed(vxfld.ErrShort), 0, 0},
		{"version 0", vtep1, unhex(t, "0001"), register.Malformed(vxfld.ErrVersion), 0, 0},
		{"version 255", vtep1, unhex(t, "ff01"), register.Malformed(vxfld.ErrVersion), 0, 0},
		{"type 9", vtep1, unhex(t, "0309"), register.Malformed(vxfld.ErrType), 0, 0},
		{"type 128", peer, unhex(t, "0380"), register.VerdictExtension, 0, 0},
		{"broken protobuf", vtep1, unhex(t, "030108"), register.Malformed(vxfld.ErrProtobuf), 0, 0},
		{"VNI missing", vtep1, unhex(t, "030108012a00"), register.Malformed(vxfld.ErrMissing), 0, 0},
		{"VNI of 25 bits", vtep1, unhex(t, "01010001005a010000000000"), register.Malformed(vxfld.ErrVNI), 0, 0},
		{"address of three octets", vtep1, unhex(t, "030108012a0b080112070a050a030a0001"), register.Malformed(vxfld.ErrAddress), 0, 0},
		{"SYNC over UDP", peer, unhex(t, "03031802"), register.VerdictSync, 0, 0},
		{"PROXY", peer, unhex(t, "0302"), register.VerdictProxy, 0, 0},
		{"PROXY with a short packet", peer, unhex(t, "03023a00"), register.Malformed(vxfld.ErrPacket), 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			onBench(t, nil, func(b *bench) {
				b.send(tt.from, tt.msg)
				if diff := cmp.Diff(map[register.Verdict]uint64{tt.want: 1}, b.verdicts()); diff != "" {
					t.Errorf("verdicts (-want +got):\n%s", diff)
				}
				if got := len(b.table.took()); got != tt.updates {
					t.Errorf("got %d updates, want %d", got, tt.updates)
				}
				if got := len(b.conn.sent()); got != tt.answers {
					t.Errorf("got %d answers, want %d", got, tt.answers)
				}
				lines := b.lines(logrus.WarnLevel)
				if tt.want.Accepted() != (len(lines) == 0) {
					t.Errorf("got %d warnings, want one for what is refused alone", len(lines))
				}
			})
		})
	}
}

func TestHoldtimeAndIdentifier(t *testing.T) {
	tests := []struct {
		name     string
		version  vxfld.Version
		holdtime uint32
		want     time.Duration
	}{
		{"withdrawal", 3, 0, 0},
		{"seconds", 2, 90, 90 * time.Second},
		{"static", 1, 65535, fdb.Static},
		{"v3 static", 3, 65535, fdb.Static},
		{"longer than static", 3, 65536, 65536 * time.Second},
		{"as long as can be", 3, 1<<32 - 1, (1<<32 - 1) * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			onBench(t, nil, func(b *bench) {
				r := vxfld.Refresh{Originator: true, Holdtime: tt.holdtime, VNIs: names(7, addr("10.0.0.1"))}
				if tt.version == vxfld.V3 {
					r.Identifier = 1<<64 - 1
				}
				b.send(vtep1, refresh(t, tt.version, r))
				want := []fdb.Update{{
					VNI: 7, Addr: addr("10.0.0.1"), Identifier: r.Identifier, Source: fdb.Registration, Holdtime: tt.want,
				}}
				if diff := cmp.Diff(want, b.table.took(), equateAddrs); diff != "" {
					t.Errorf("updates (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// What cannot be a VTEP is left out by reason, the rest is taken in, in its
// order, and only the rest is relayed.
func TestLeftOut(t *testing.T) {
	rel := &relayer{}
	change := func(o *register.Options) { o.Relayer = rel }
	onBench(t, change, func(b *bench) {
		b.send(vtep1, refresh(t, 3, vxfld.Refresh{Originator: true, Holdtime: 90, VNIs: append(
			names(7, addr("10.0.0.1"), addr("0.0.0.0"), addr("127.1.2.3"), addr("224.0.0.1"), addr("255.255.255.255"),
				addr("0.1.2.3"), addr("10.0.0.99"), service.Addr(), peer.Addr(), addr("10.0.0.66"), addr("10.0.0.2")),
			names(8, addr("127.0.0.1"), addr("10.0.0.3"))...)}))
		var got []string
		for _, u := range b.table.took() {
			got = append(got, u.VNI.String()+" "+u.Addr.String())
		}
		if want := []string{"7 10.0.0.1", "7 10.0.0.2", "8 10.0.0.3"}; !slices.Equal(got, want) {
			t.Errorf("got %v taken in, want %v", got, want)
		}
		left := map[string]uint64{}
		for l := range register.NumLeftOut {
			left[l.String()] = b.server.Counters().LeftOut[l].Load()
		}
		want := map[string]uint64{
			"unspecified": 1, "loopback": 2, "multicast": 1, "broadcast": 1, "unusable": 1, "own": 1, "service": 2, "denied": 1,
		}
		if !maps.Equal(left, want) {
			t.Errorf("got %v left out, want %v", left, want)
		}
		relayed := []vxfld.VNIMembers{
			{VNI: 7, Addrs: []netip.Addr{addr("10.0.0.1"), addr("10.0.0.2")}}, {VNI: 8, Addrs: []netip.Addr{addr("10.0.0.3")}},
		}
		if diff := cmp.Diff([][]vxfld.VNIMembers{relayed}, rel.got, equateAddrs); diff != "" {
			t.Errorf("relayed (-want +got):\n%s", diff)
		}
		if n := len(b.lines(logrus.WarnLevel)); n != len(want) {
			t.Errorf("got %d warnings, want one for each of %d reasons", n, len(want))
		}
	})
}

// Who withdraws while its address is excluded is no member when the exclusion
// ends; what is no unicast address is left out of withdrawals too.
func TestWithdrawWhileExcluded(t *testing.T) {
	for _, x := range []fdb.Exclusion{fdb.ExcludedOwn, fdb.ExcludedService, fdb.ExcludedDenied} {
		t.Run(x.String(), func(t *testing.T) {
			table := fdb.New(fdb.Options{})
			rel := &relayer{}
			change := func(o *register.Options) { o.Table, o.Relayer = table, rel }
			onBench(t, change, func(b *bench) {
				r := vxfld.Refresh{Originator: true, Holdtime: 90, Identifier: 5, VNIs: names(7, vtep1.Addr())}
				b.send(vtep2, refresh(t, 3, r))
				table.Exclude(map[netip.Addr]fdb.Exclusion{vtep1.Addr(): x})
				r.Holdtime = 0
				r.VNIs = names(7, vtep1.Addr(), addr("224.0.0.1"))
				b.send(vtep2, refresh(t, 3, r))
				table.Exclude(nil)
				if got := table.Members(0, 7, nil); len(got) > 0 {
					t.Errorf("got members %v after the exclusion, want none", got)
				}
				c := b.server.Counters()
				if w, l := c.Withdrawn.Load(), c.LeftOut[register.LeftMulticast].Load(); w != 1 || l != 1 {
					t.Errorf("got %d withdrawn, %d multicast left out, want 1, 1", w, l)
				}
				want := names(7, vtep1.Addr())
				if diff := cmp.Diff([][]vxfld.VNIMembers{want, want}, rel.got, equateAddrs); diff != "" {
					t.Errorf("relayed (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// A peer is never answered in version 1, which it would answer with its whole
// table; what it registers is taken in, and its other questions are answered.
func TestPeerIsNotAnsweredInVersion1(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		r := vxfld.Refresh{Originator: true, Holdtime: 90, VNIs: names(7, addr("10.0.0.1"))}
		b.send(peer, refresh(t, 1, r))
		b.send(peer, refresh(t, 1, vxfld.Refresh{Originator: true, VNIs: names(7)}))
		if got := b.conn.sent(); len(got) > 0 {
			t.Errorf("got %d messages to a peer, want none", len(got))
		}
		if n, w := len(b.table.took()), b.server.Counters().Withheld.Load(); n != 1 || w != 2 {
			t.Errorf("got %d updates, %d answers withheld, want 1, 2", n, w)
		}
		if lines := b.lines(logrus.WarnLevel); len(lines) != 1 || lines[0].Data["peer"] != peer {
			t.Errorf("got warnings %v, want one about %s", lines, peer)
		}
		b.send(peer, askFor(t, vxfld.V2, 7, 1))
		if got := answered(t, 2, peer, b.conn.sent()); len(got) != 1 {
			t.Errorf("got %d records in answer to version 2, want 1", len(got))
		}
	})
}

// A relayer remembers what it was to relay.
type relayer struct{ got [][]vxfld.VNIMembers }

func (r *relayer) Relay(m *vxfld.Refresh) { r.got = append(r.got, m.VNIs) }

// Relayed messages, answers and refused ones are not relayed again.
func TestRelayOnlyWhatVTEPsSay(t *testing.T) {
	rel := &relayer{}
	onBench(t, func(o *register.Options) { o.Relayer = rel }, func(b *bench) {
		b.send(peer, refresh(t, 3, vxfld.Refresh{Holdtime: 90, VNIs: names(7, addr("10.0.0.1"))}))
		b.send(vtep1, refresh(t, 3, vxfld.Refresh{Holdtime: 90, VNIs: names(7, addr("10.0.0.1"))}))
		b.send(vtep1, refresh(t, 3, vxfld.Refresh{Response: 2}))
		if len(rel.got) > 0 {
			t.Errorf("got %v relayed, want nothing", rel.got)
		}
	})
}

// What the table does is counted, and what it refuses is reported.
func TestTableResult(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		r := vxfld.Refresh{Originator: true, Holdtime: 90, VNIs: names(7, addr("10.0.0.1"))}
		b.send(vtep1, refresh(t, 3, r))
		b.send(vtep1, refresh(t, 3, r))
		if n := len(b.lines(logrus.DebugLevel)); n != 2 {
			t.Errorf("got %d debug lines for two registrations, want 2", n)
		}
		r.Holdtime = 0
		b.send(vtep1, refresh(t, 3, r))
		c := b.server.Counters()
		if a, f, w := c.Added.Load(), c.Refreshed.Load(), c.Withdrawn.Load(); a != 1 || f != 1 || w != 1 {
			t.Errorf("got %d added, %d refreshed, %d withdrawn, want 1 of each", a, f, w)
		}
		full := fdb.RefusedMembers
		b.table.refuse = &full
		b.send(vtep1, refresh(t, 3, r))
		if got := c.Refused[fdb.RefusedMembers].Load(); got != 1 {
			t.Errorf("got %d refused, want 1", got)
		}
		if lines := b.lines(logrus.WarnLevel); len(lines) != 1 || lines[0].Data["reason"] != "members" {
			t.Errorf("got warnings %v, want one about members", lines)
		}
		if got := c.Received[3][register.VerdictRegistration].Load(); got != 4 {
			t.Errorf("got %d registrations of version 3, want 4", got)
		}
		b.send(vtep1, []byte{9, 0, 0, 0, 0, 0, 0, 0})
		if got := c.Received[0][register.Malformed(vxfld.ErrVersion)].Load(); got != 1 {
			t.Errorf("got %d messages of a version that does not exist, want 1", got)
		}
	})
}
