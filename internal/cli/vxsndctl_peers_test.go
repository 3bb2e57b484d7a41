// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vxsnd/internal/control"
)

// cannedPeers are the peers of a daemon in scripts: one that is well, one of the
// Python suite that is gone, one that nothing was told yet, and one whose name
// does not resolve.
func cannedPeers() []control.Peer {
	peer := func(addr string) control.Peer {
		return control.Peer{Address: netip.MustParseAddrPort(addr), Kind: "other"}
	}
	well, gone, idle := peer("10.0.0.12:10001"), peer("[2001:db8::13]:10002"), peer("10.0.0.14:10001")
	ago := int64(3)
	well.Kind, well.Reachable, well.LastHeard = "vxsnd", true, &ago
	well.Queue, well.Waiting, well.Relayed, well.Dropped, well.RelayErrors = 5, 12, 123456, 7, 1
	well.Updates, well.UpdateConnections, well.UpdateErrors, well.Differ = 1000, 4, 2, 9
	well.Name, well.RelayProblem = "sn1.example", "message came back: connection refused"
	well.LastDump = &control.Dump{Ago: 90061, Entries: 1000000, Milliseconds: 2345}
	gone.Problem, gone.All = "dial tcp [2001:db8::13]:10002: connect: connection refused", true
	gone.LastDump = &control.Dump{Ago: 4, Problem: "the peer says nothing"}
	idle.Name = "sn3.example"
	unknown := control.Peer{Name: "sn4.example", Kind: "other", Problem: "lookup sn4.example: no such host"}
	return []control.Peer{well, gone, idle, unknown}
}

func TestPeersText(t *testing.T) {
	addr := netip.MustParseAddrPort("10.0.0.12:10001")
	dump := func(problem string) *control.Dump { return &control.Dump{Problem: problem} }
	tests := []struct {
		name string
		peer control.Peer
		want string // what follows the table
	}{
		{"well", control.Peer{Reachable: true, LastDump: dump("")}, ""},
		{"one problem twice", control.Peer{Problem: "gone", LastDump: dump("gone")}, "\n10.0.0.12:10001: gone\n"},
		{"lost messages", control.Peer{Reachable: true, RelayProblem: "came back"}, "\n10.0.0.12:10001: relay: came back\n"},
		{"a dump that failed alone", control.Peer{Reachable: true, LastDump: dump("too large")}, "\n10.0.0.12:10001: dump: too large\n"},
		{"two problems of two lines", control.Peer{Problem: "a\nb", LastDump: dump("c\nd")},
			"\n10.0.0.12:10001: a; b\n10.0.0.12:10001: dump: c; d\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.peer.Address = addr
			var b screen
			peersText(&b, &[]control.Peer{tt.peer})
			lines := strings.SplitAfterN(b.String(), "\n", 4)
			if diff := cmp.Diff(tt.want, lines[3]); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestStateOfAPeer(t *testing.T) {
	tests := []struct {
		name string
		peer control.Peer
		want string
	}{
		{"well", control.Peer{Reachable: true}, "up"},
		{"at fault", control.Peer{Reachable: true, Faulty: true, Problem: "cut off"}, "faulty"},
		{"seen to do nothing", control.Peer{Reachable: true, Silent: true}, "silent"},
		{"gone", control.Peer{Problem: "refused"}, "unreachable"},
		{"closes questions", control.Peer{Refuses: true, Problem: "closed"}, "refuses"},
		{"not tried", control.Peer{}, "-"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := peerState(&tt.peer); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestStateOfTheAnycastAddress(t *testing.T) {
	tests := []struct {
		name string
		is   control.Anycast
		want []string
	}{
		{"ours", control.Anycast{Owner: "vxsnd", SinceSeconds: 61, Healthy: true},
			[]string{"Installed:          by vxsnd, for 1m1s", "Healthy:            yes", "Draining:           no"}},
		{"an operator's", control.Anycast{Owner: "operator", Healthy: true},
			[]string{"Installed:          by an operator, for 0s", "Healthy:            yes", "Draining:           no"}},
		{"not healthy", control.Anycast{Owner: "none", SinceSeconds: 2, Problem: "worker 1 is stuck\nso is 2"},
			[]string{"Installed:          no, for 2s", "Healthy:            no", "Draining:           no",
				"Problem:            worker 1 is stuck; so is 2"}},
		{"withdrawn", control.Anycast{Owner: "none", Healthy: true, Draining: true},
			[]string{"Installed:          no, for 0s", "Healthy:            yes", "Draining:           yes"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.is.Address, tt.is.Interface = netip.MustParseAddr("2001:db8::1"), "blue"
			var b screen
			showDetail(&b, &control.Status{Anycast: &tt.is})
			_, got, _ := strings.Cut(b.String(), "\nAnycast address\n")
			got, _, _ = strings.Cut(got, "\n\n")
			want := "  " + strings.Join(append([]string{"Address:            2001:db8::1 on blue"}, tt.want...), "\n  ")
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}
