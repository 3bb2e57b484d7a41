// SPDX-License-Identifier: Apache-2.0

package fdb_test

import (
	"maps"
	"net/netip"
	"time"

	"vxsnd/internal/fdb"
	"vxsnd/internal/vxlan"
)

// A model is the table as one would describe it: entries in a map, and every
// question answered by looking at all of them. It knows no caps.
type model struct {
	o        fdb.Options
	entries  map[key]fdb.Time
	heard    map[key]fdb.Time // of learned entries, rounded up to a second
	tombs    map[key]fdb.Time // with source 0
	excluded map[netip.Addr]fdb.Exclusion
	expired  uint64
}

type key struct {
	vni  vxlan.VNI
	addr netip.Addr
	id   uint64
	src  fdb.Source
}

func newModel(o fdb.Options) *model {
	return &model{o: o, entries: map[key]fdb.Time{}, heard: map[key]fdb.Time{}, tombs: map[key]fdb.Time{}, excluded: map[netip.Addr]fdb.Exclusion{}}
}

// age removes what has expired.
func (m *model) age(now fdb.Time) {
	for k, exp := range m.entries {
		if exp <= now {
			delete(m.entries, k)
			m.expired++
		}
	}
	maps.DeleteFunc(m.tombs, func(_ key, exp fdb.Time) bool { return exp <= now })
}

func registrant(s fdb.Source) bool { return s == fdb.Registration || s == fdb.Peer }

func (m *model) apply(now fdb.Time, us []fdb.Update) fdb.Result {
	var res fdb.Result
	for _, u := range us {
		m.applyOne(now, u, &res)
	}
	return res
}

func (m *model) applyOne(now fdb.Time, u fdb.Update, res *fdb.Result) {
	k := key{u.VNI, u.Addr, u.Identifier, u.Source}
	tomb := key{u.VNI, u.Addr, u.Identifier, 0}
	sibling := k
	if registrant(u.Source) {
		sibling.src = fdb.Registration + fdb.Peer - u.Source
	}
	if u.Holdtime == 0 {
		if u.Repair {
			res.Refused[fdb.RefusedInvalid]++
			return
		}
		if u.StaticOnly {
			if m.entries[k] == fdb.Never && !u.KeepStatic {
				delete(m.entries, k)
				res.Withdrawn++
			}
			return
		}
		until := max(now.Add(m.o.MaxHoldtime), m.tombs[tomb])
		var gone []key
		if !u.KeepStatic || m.entries[k] != fdb.Never {
			gone = append(gone, k)
		}
		if sibling != k && !(sibling.src == fdb.Peer && u.Identifier == 0 && m.entries[sibling] == fdb.Never) {
			gone = append(gone, sibling)
		}
		for _, g := range gone {
			if exp, ok := m.entries[g]; ok {
				delete(m.entries, g)
				res.Withdrawn++
				until = max(until, exp)
			}
		}
		m.tombs[tomb] = until
		return
	}
	if m.excluded[u.Addr] != 0 && registrant(u.Source) {
		res.Refused[fdb.RefusedExcluded]++
		return
	}
	if _, ok := m.tombs[tomb]; ok && u.Repair {
		res.Refused[fdb.RefusedTombstone]++
		return
	}
	if !u.Repair {
		delete(m.tombs, tomb)
	}
	hold := u.Holdtime
	if registrant(u.Source) && (hold != fdb.Static || m.o.MaxHoldtime < 65535*time.Second) {
		hold = min(hold, m.o.MaxHoldtime)
	}
	exp := now.Add(hold)
	old, ok := m.entries[k]
	if ok && u.KeepStatic && old == fdb.Never {
		exp = old
	}
	if ok && u.Repair {
		if exp > old {
			m.entries[k] = exp
			res.Refreshed++
		}
		return
	}
	if s, held := m.entries[sibling]; held && u.Repair && sibling != k && u.Identifier != 0 && exp <= s {
		return
	}
	if registrant(u.Source) && u.Identifier != 0 {
		var rivals []key
		for r := range m.entries {
			if r.vni == u.VNI && r.id == u.Identifier && registrant(r.src) && r.addr != u.Addr && r.addr.Is4() == u.Addr.Is4() {
				rivals = append(rivals, r)
			}
		}
		if len(rivals) > 0 && u.Repair {
			res.Refused[fdb.RefusedOwned]++
			return
		}
		for _, r := range rivals {
			delete(m.entries, r)
			res.Replaced++
		}
		if s, ok := m.entries[sibling]; ok && exp < s && !u.Repair {
			m.entries[sibling] = exp
		}
	}
	m.entries[k] = exp
	if ok {
		res.Refreshed++
	} else {
		res.Added++
	}
}

// learns tells whether a data packet makes its source a member, and whether it
// refreshes it.
func (m *model) learns(vni vxlan.VNI, addr netip.Addr) (learn, refresh bool) {
	if m.o.Learning == fdb.LearnOff || m.excluded[addr] != 0 {
		return false, false
	}
	known, static := false, false
	for k, exp := range m.entries {
		if k.vni != vni {
			continue
		}
		known = known || k.src != fdb.Data
		if k.addr == addr {
			if registrant(k.src) && k.id != 0 {
				return false, false
			}
			refresh = refresh || k.src == fdb.Data
			static = static || exp == fdb.Never
		}
	}
	if m.o.Learning == fdb.LearnKnown && !known {
		return false, false
	}
	return !refresh && !static, refresh
}

func (m *model) learn(now fdb.Time, ls []fdb.Learned) fdb.Result {
	var res fdb.Result
	for _, l := range ls {
		k := key{l.VNI, l.Addr, 0, fdb.Data}
		if m.o.Learning != fdb.LearnOff && m.excluded[l.Addr] != 0 {
			res.Refused[fdb.RefusedExcluded]++
			continue
		}
		exp := now.Add(m.o.LearnHoldtime)
		switch learn, refresh := m.learns(l.VNI, l.Addr); {
		case refresh && exp > m.entries[k]:
			m.entries[k] = exp
			m.hear(now, k)
			res.Refreshed++
		case learn:
			m.entries[k] = exp
			delete(m.heard, k)
			m.hear(now, k)
			res.Added++
		}
	}
	return res
}

// hear notes that a learned member was heard of.
func (m *model) hear(now fdb.Time, k key) {
	m.heard[k] = max(m.heard[k], now/fdb.Time(time.Second)*fdb.Time(time.Second)+fdb.Time(time.Second))
}

// configure takes other options.
func (m *model) configure(o fdb.Options) {
	for k := range m.entries {
		if k.src == fdb.Data && o.LearnHoldtime != m.o.LearnHoldtime {
			m.entries[k] = m.heard[k].Add(o.LearnHoldtime)
		}
	}
	m.o = o
}

// members returns the destinations of vni with their expiry.
func (m *model) members(vni vxlan.VNI) map[netip.Addr]fdb.Time {
	out := map[netip.Addr]fdb.Time{}
	for k, exp := range m.entries {
		if k.vni == vni && m.excluded[k.addr] == 0 {
			out[k.addr] = max(out[k.addr], exp)
		}
	}
	return out
}
