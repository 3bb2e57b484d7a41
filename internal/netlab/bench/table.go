// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"
	"slices"

	"vxsnd/internal/vxlan"
)

// A table says who is flooded to: so many members in each of so many VNIs. The
// VNIs of a table share their members, each has others than its neighbours.
type table struct {
	members, vnis int
	onLink        bool // the node's neighbours, not behind a router
	// workers of vxsnd that share all CPUs with the sender, 0 for one that has a CPU
	// of its own.
	workers int
}

const (
	// members4k is how many addresses the members of tables are taken from, and
	// the largest number of members.
	members4k = 4000

	// firstRestless is the index of the first address of those that come and go.
	firstRestless = 60000

	// gaugeIndex is that of a gauge, which comes and goes beside them.
	gaugeIndex = 65000
)

// member returns the address of member i of all.
func (t table) member(i int) netip.Addr {
	if t.onLink {
		return netip.AddrFrom4([4]byte{10, 98, byte(i >> 8), byte(i)})
	}
	return netip.AddrFrom4([4]byte{10, 99, byte(i >> 8), byte(i)})
}

// first returns the index of the first member of VNI k; the others follow it,
// and 0 follows the last.
func (t table) first(k int) int { return k * t.members % members4k }

// has tells whether index i is that of a member of VNI k, and the how many-th.
func (t table) has(k, i int) (at int, ok bool) {
	at = (i - t.first(k) + members4k) % members4k
	return at, i < members4k && at < t.members
}

// list returns the members of VNI k.
func (t table) list(k int) []netip.Addr {
	as := make([]netip.Addr, t.members)
	for j := range as {
		as[j] = t.member((t.first(k) + j) % members4k)
	}
	return as
}

// memberships returns the VNIs of each address.
func (t table) memberships() map[netip.Addr][]vxlan.VNI {
	m := map[netip.Addr][]vxlan.VNI{}
	for k := range t.vnis {
		for _, a := range t.list(k) {
			m[a] = append(m[a], vxlan.VNI(firstVNI+k))
		}
	}
	return m
}

// sampled returns how many packets there are for each whose copies are all looked
// at: fewer where a packet has many copies, and few come in a measurement.
func (t table) sampled() int {
	every := 128
	for every > 16 && every*t.members > 16384 {
		every /= 2
	}
	return every
}

// A change adds a member to a VNI, or removes it.
type change struct {
	vni  int // the how many-th
	addr netip.Addr
	add  bool
}

// changes returns the changes of a restless table, to be made again and again:
// what they add they remove again. A VNI has an eighth more members at most.
func (t table) changes() []change {
	var add []change
	for j := range max(t.members/8, 1) {
		if len(add) >= 1000 {
			break
		}
		for k := range t.vnis {
			add = append(add, change{vni: k, addr: t.member(firstRestless + j), add: true})
		}
	}
	remove := slices.Clone(add)
	for i := range remove {
		remove[i].add = false
	}
	return append(add, remove...)
}
