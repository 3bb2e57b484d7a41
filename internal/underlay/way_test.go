// SPDX-License-Identifier: Apache-2.0

package underlay_test

import (
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
	"vxsnd/internal/underlay"
)

func TestWays(t *testing.T) {
	r := newRig(t)
	prefix := netip.MustParsePrefix
	check(t, r.machine.AddAddr("eth0", prefix("2001:db8::1/64")))
	for _, route := range []netlab.Route{
		{To: prefix("198.51.100.0/24"), Via: addr("10.0.0.2"), MTU: 1000},
		{To: prefix("198.51.101.0/24"), Kind: netlab.Blackhole},
		{To: prefix("198.51.102.0/24"), Kind: netlab.Unreachable},
		{To: prefix("198.51.103.0/24"), Kind: netlab.Prohibit},
		{To: prefix("198.51.104.0/24"), Kind: netlab.Local, Device: "lo", Table: unix.RT_TABLE_LOCAL},
		{To: prefix("2001:db8:1::/64"), Via: addr("2001:db8::2")},
		{To: prefix("2001:db8:2::/64"), Kind: netlab.Unreachable},
	} {
		check(t, r.machine.AddRoute(route))
	}
	direct := underlay.Way{Device: "eth0", MTU: 1500}
	tests := []struct {
		name, to string
		way      underlay.Way
		err      error
	}{
		{"neighbour", "10.0.0.2", direct, nil},
		{"gateway, with an MTU of the route alone", "198.51.100.1", underlay.Way{Device: "eth0", MTU: 1500, Gateway: addr("10.0.0.2")}, nil},
		{"no route", "192.0.2.1", underlay.Way{}, unix.ENETUNREACH},
		{"blackhole", "198.51.101.1", underlay.Way{}, unix.EINVAL},
		{"unreachable", "198.51.102.1", underlay.Way{}, unix.EHOSTUNREACH},
		{"prohibit", "198.51.103.1", underlay.Way{}, unix.EACCES},
		{"own address", "10.0.0.1", underlay.Way{Device: "lo", MTU: 65536, Local: true}, nil},
		{"local route", "198.51.104.1", underlay.Way{Device: "lo", MTU: 65536, Local: true}, nil},
		{"broadcast", "10.0.0.255", underlay.Way{Device: "eth0", MTU: 1500, Broadcast: true}, nil},
		{"IPv6 neighbour", "2001:db8::2", direct, nil},
		{"IPv6 gateway", "2001:db8:1::1", underlay.Way{Device: "eth0", MTU: 1500, Gateway: addr("2001:db8::2")}, nil},
		{"IPv6 no route", "2001:db8:9::1", underlay.Way{}, unix.ENETUNREACH},
		{"IPv6 unreachable", "2001:db8:2::1", underlay.Way{}, unix.EHOSTUNREACH},
	}
	w := must(r.u.Ways())(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := w.To(addr(tt.to)); got != tt.way || !errors.Is(err, tt.err) {
				t.Errorf("got %+v, %v, want %+v, %v", got, err, tt.way, tt.err)
			}
		})
	}
}
