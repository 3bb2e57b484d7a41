// SPDX-License-Identifier: Apache-2.0

package config

import (
	"maps"
	"net/netip"
	"strings"

	"vxsnd/internal/vxlan"
)

// A Change is an option that has another value in a new configuration. The
// values are in the syntax of the configuration file. A long one is cut on both
// sides of where the two begin to differ, with an ellipsis for what is left out.
type Change struct {
	Option   string // name in the table of options
	Old, New string // at most about 200 bytes each
	Reload   bool   // a reload brings it into effect; else it needs a restart
}

// Diff returns what program p would do in another way under now than under
// old, in the order of the table of options. Values are compared and not how
// they were written: the order of static members makes no change, nor does one
// that is named twice.
func Diff(p Program, old, now *Config) []Change {
	var cs []Change
	for i := range table {
		o := &table[i]
		if o.Obsolete || o.Programs&p == 0 {
			continue
		}
		a, b := o.Value(old), o.Value(now)
		if a == b || o.Name == "vtep_membership" && sameMembers(old.VTEPMembership, now.VTEPMembership) {
			continue
		}
		a, b = excerpts(a, b)
		cs = append(cs, Change{o.Name, a, b, o.Reload})
	}
	return cs
}

// WithStatic returns c with the Static part of running: what a daemon may
// change to while it runs, when c is what its files now say.
func (c Config) WithStatic(running *Config) Config {
	c.Static = running.Static
	return c
}

// sameMembers tells whether two lists make the same members static.
func sameMembers(a, b []Membership) bool {
	type pair struct {
		addr netip.Addr
		vni  vxlan.VNI
	}
	pairs := func(ms []Membership) map[pair]bool {
		set := make(map[pair]bool)
		for _, m := range ms {
			for _, v := range m.VNIs {
				set[pair{m.Addr, v}] = true
			}
		}
		return set
	}
	return maps.Equal(pairs(a), pairs(b))
}

// maxValue is how much of a value a Change shows, in bytes.
const maxValue = 200

// excerpts cuts two values so that what differs is to be seen.
func excerpts(a, b string) (string, string) {
	if len(a) <= maxValue && len(b) <= maxValue {
		return a, b
	}
	same := 0
	for same < min(len(a), len(b)) && a[same] == b[same] {
		same++
	}
	if start := strings.LastIndexByte(a[:same], ' ') + 1; start > maxValue/2 {
		a, b = "… "+a[start:], "… "+b[start:]
	}
	return shorten(a, maxValue), shorten(b, maxValue)
}
