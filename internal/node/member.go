// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"vxsnd/internal/config"
	"vxsnd/internal/fdb"
	"vxsnd/internal/vxlan"
)

// A pair is one static member.
type pair struct {
	vni  vxlan.VNI
	addr [16]byte
}

// pairs lists static members in order, each once.
func pairs(ms []config.Membership) []pair {
	var ps []pair
	for _, m := range ms {
		for _, vni := range m.VNIs {
			ps = append(ps, pair{vni, m.Addr.As16()})
		}
	}
	slices.SortFunc(ps, pair.compare)
	return slices.Compact(ps)
}

func (p pair) compare(q pair) int {
	return cmp.Or(cmp.Compare(p.vni, q.vni), slices.Compare(p.addr[:], q.addr[:]))
}

func (p pair) update(src fdb.Source, hold time.Duration) fdb.Update {
	return fdb.Update{VNI: p.vni, Addr: netip.AddrFrom16(p.addr).Unmap(), Source: src, Holdtime: hold}
}

// memberChanges returns what turns one list of static members into the other.
func memberChanges(from, to []config.Membership) (add, gone []fdb.Update) {
	old, now := pairs(from), pairs(to)
	lacks := func(ps []pair, p pair) bool {
		_, found := slices.BinarySearchFunc(ps, p, pair.compare)
		return !found
	}
	for _, p := range now {
		if lacks(old, p) {
			add = append(add, p.update(fdb.Configuration, fdb.Static))
		}
	}
	for _, p := range old {
		if lacks(now, p) {
			gone = append(gone, p.update(fdb.Configuration, 0))
		}
	}
	return add, gone
}

// memberBatch is how many static members are taken in at once.
const memberBatch = 1024

// addMembers takes in static members, up to the batch with the first that the
// table refuses. It returns those that may have been taken in, and that refusal.
func (n *Node) addMembers(us []fdb.Update) (taken []fdb.Update, _ *refused) {
	for i := 0; i < len(us); i += memberBatch {
		batch := us[i:min(i+memberBatch, len(us))]
		taken = us[:i+len(batch)]
		if n.table.Apply(clock(), batch).Refused == [fdb.NumRefusals]int{} {
			continue
		}
		for k, u := range batch {
			if why, ok := refusal(n.table.Apply(clock(), batch[k:k+1])); !ok {
				return taken, &refused{u, why, i + k}
			}
		}
	}
	return taken, nil
}

// refusal returns why a single update was refused; ok is true where it was not.
func refusal(r fdb.Result) (_ fdb.Refusal, ok bool) {
	for why, count := range r.Refused {
		if count > 0 {
			return fdb.Refusal(why), false
		}
	}
	return 0, true
}

// A refused is a static member that the table did not take in.
type refused struct {
	fdb.Update
	why  fdb.Refusal
	item int // which one of those that were to be taken in it is
}

// ofConfiguration says which static member of the configuration has no room, and
// what would make it.
func (r *refused) ofConfiguration() error {
	option, ok := capNames[r.why]
	if !ok {
		return fmt.Errorf("vtep_membership: %s in VNI %s: not taken in (%s)", r.Addr, r.VNI, r.why)
	}
	return fmt.Errorf("vtep_membership: %s in VNI %s: no room, raise %s", r.Addr, r.VNI, option)
}
