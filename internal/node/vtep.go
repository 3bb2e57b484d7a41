// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"context"
	"net/netip"

	"vxsnd/internal/control"
	"vxsnd/internal/fdb"
	"vxsnd/internal/metrics"
	"vxsnd/internal/vxlan"
)

// showVTEP sends what is known of one VTEP: each VNI that it is a member of, or
// sends in.
func (n *Node) showVTEP(ctx context.Context, l *lister, args *control.VTEPArgs, send func(any) error) error {
	a := args.Address.Unmap()
	if !a.IsValid() {
		return badArgument("no address is named")
	}
	v := vtep{now: clock(), sent: n.traffic.Senders(nil, a, nil), counts: n.traffic.Counts, send: send}
	what, why := n.unfit(a)
	v.excluded = cmp.Or(what, why)
	only := wanted{vtep: netip.PrefixFrom(a, a.BitLen()), source: fdb.NumSources}
	err := l.send(ctx, n.table.VNIs(nil), only, n.withVia(func(part any) error {
		for _, e := range part.(control.FDBPart) {
			if err := v.entry(e); err != nil {
				return err
			}
		}
		return nil
	}))
	if err != nil {
		return err
	}
	return v.end()
}

// A vtep joins what the table has of a VTEP with what was counted of it, both in
// the order of VNI.
type vtep struct {
	now      fdb.Time
	sent     []metrics.SenderTotal // what is left of it
	counts   func(vxlan.VNI) bool
	excluded string
	part     []control.VTEPMember
	send     func(any) error
}

// entry takes the next entry of the table.
func (v *vtep) entry(e control.FDBEntry) error {
	if last := len(v.part) - 1; last >= 0 && v.part[last].VNI == e.VNI {
		v.part[last].Sources = append(v.part[last].Sources, e)
		return nil
	}
	for len(v.sent) > 0 && uint32(v.sent[0].VNI) < e.VNI {
		if err := v.counted(); err != nil {
			return err
		}
	}
	m := control.VTEPMember{VNI: e.VNI, Sources: []control.FDBEntry{e}, Excluded: v.excluded}
	if len(v.sent) > 0 && uint32(v.sent[0].VNI) == e.VNI {
		v.fill(&m, &v.sent[0])
		v.sent = v.sent[1:]
	} else {
		m.Uncounted = !v.counts(vxlan.VNI(e.VNI))
	}
	return v.add(m)
}

// counted takes the next of what was counted, in a VNI that the VTEP is no member
// of.
func (v *vtep) counted() error {
	m := control.VTEPMember{VNI: uint32(v.sent[0].VNI)}
	v.fill(&m, &v.sent[0])
	v.sent = v.sent[1:]
	return v.add(m)
}

func (v *vtep) fill(m *control.VTEPMember, s *metrics.SenderTotal) {
	m.Packets, m.Bytes, m.Copies, m.CopyBytes, m.Drops = s.Packets, s.Bytes, s.Copies, s.CopyBytes, s.Drops
	if s.Packets > 0 {
		ago := max(0, v.now.Sub(fdb.Time(s.Last))).Seconds()
		m.LastPacket = &ago
	}
}

// maxVTEPMembers is how many of these a part has: each may have some 50 entries.
const maxVTEPMembers = 64

func (v *vtep) add(m control.VTEPMember) error {
	if len(v.part) == maxVTEPMembers {
		if err := v.send(v.part); err != nil {
			return err
		}
		v.part = v.part[:0]
	}
	v.part = append(v.part, m)
	return nil
}

// end sends what is left.
func (v *vtep) end() error {
	for len(v.sent) > 0 {
		if err := v.counted(); err != nil {
			return err
		}
	}
	if len(v.part) == 0 {
		return nil
	}
	return v.send(v.part)
}
