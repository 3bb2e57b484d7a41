// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestParseRoute(t *testing.T) {
	to, gateway := netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("fe80::1")
	route := func(kind byte, attrs ...[]byte) []byte {
		b := make([]byte, unix.SizeofRtMsg)
		b[0], b[7] = unix.AF_INET, kind
		b = appendAttribute(b, unix.RTA_OIF, ne.AppendUint32(nil, 3))
		for _, a := range attrs {
			b = append(b, a...)
		}
		return b
	}
	via := append(ne.AppendUint16(nil, unix.AF_INET6), gateway.AsSlice()...)
	mtu := appendAttribute(nil, unix.RTAX_MTU, ne.AppendUint32(nil, 1280))
	tests := []struct {
		name string
		b    []byte
		want pathRoute
	}{
		{"on the link", route(unix.RTN_UNICAST), pathRoute{PathGood, neighbour{3, to}, 0}},
		{"gateway of another family", route(unix.RTN_UNICAST, appendAttribute(nil, unix.RTA_VIA, via)), pathRoute{PathGood, neighbour{3, gateway}, 0}},
		{"metrics", route(unix.RTN_UNICAST, appendAttribute(nil, unix.RTA_METRICS, mtu)), pathRoute{PathGood, neighbour{3, to}, 1280}},
		{
			"encapsulation", route(unix.RTN_UNICAST, appendAttribute(nil, unix.RTA_ENCAP_TYPE, ne.AppendUint16(nil, 1))),
			pathRoute{state: PathUnfit},
		},
		{"local", route(unix.RTN_LOCAL), pathRoute{state: PathUnfit}},
		{"multicast", route(unix.RTN_MULTICAST), pathRoute{state: PathUnreachable}},
		{"short", nil, pathRoute{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := parseRoute(tt.b, to); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// A way is not relied on while its next hop is being resolved.
func TestPathIsPending(t *testing.T) {
	a := netip.MustParseAddr("192.0.2.1")
	p := &Paths{u: &Underlay{}, told: make(map[netip.Addr]Path)}
	var told []PathState
	f := newPathFollower(p, func(ways map[netip.Addr]Path) { told = append(told, ways[a].State) }, func([]PathDevice) {})
	f.links[3] = pathLink{PathDevice: PathDevice{Index: 3, MTU: 1500}, flags: unix.IFF_UP, ether: true}
	w := &wanted{addr: a}
	f.wanted[a] = w
	f.setRoute(w, pathRoute{state: PathGood, next: neighbour{3, a}})
	state := func(nud uint16, want ...PathState) {
		t.Helper()
		f.setHop(w.hop, hopState{nud: nud, hasMAC: nud != unix.NUD_INCOMPLETE}, time.Now())
		f.tell()
		if diff := cmp.Diff(want, told); diff != "" {
			t.Errorf("states told (-want +got):\n%s", diff)
		}
	}
	state(unix.NUD_INCOMPLETE)
	state(unix.NUD_REACHABLE, PathGood)
	state(unix.NUD_INCOMPLETE, PathGood, PathPending)
	state(unix.NUD_FAILED, PathGood, PathPending, PathUnresolved)
	state(unix.NUD_INCOMPLETE, PathGood, PathPending, PathUnresolved)
	state(unix.NUD_REACHABLE, PathGood, PathPending, PathUnresolved, PathGood)
}

// What goes there needs no asking, or would lose what somebody has made of it.
func TestNeighboursThatAreLeftAlone(t *testing.T) {
	tests := []struct {
		name string
		s    hopState
		want bool
	}{
		{"none", hopState{}, true},
		{"failed", hopState{nud: unix.NUD_FAILED}, true},
		{"stale", hopState{nud: unix.NUD_STALE}, true},
		{"incomplete", hopState{nud: unix.NUD_INCOMPLETE}, false},
		{"delay", hopState{nud: unix.NUD_DELAY}, false},
		{"reachable", hopState{nud: unix.NUD_REACHABLE}, false},
		{"permanent", hopState{nud: unix.NUD_PERMANENT}, false},
		{"without resolution", hopState{nud: unix.NUD_NOARP}, false},
		{"kept resolved", hopState{nud: unix.NUD_STALE, managed: true}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := &Paths{u: &Underlay{}}
			f := newPathFollower(p, nil, nil)
			h := &hop{}
			f.setHop(h, tt.s, time.Now())
			if _, got := f.resolve[h]; got != tt.want {
				t.Errorf("got asked for %v, want %v", got, tt.want)
			}
		})
	}
	learned := hop{neighbour: neighbour{addr: netip.MustParseAddr("192.0.2.1")}, hopState: hopState{nud: unix.NUD_STALE, flags: unix.NTF_EXT_LEARNED}}
	if got, want := learned.use().body[10], byte(unix.NTF_USE|unix.NTF_EXT_LEARNED); got != want {
		t.Errorf("got flags %#x, want %#x", got, want)
	}
}
