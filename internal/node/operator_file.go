// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/config"
	"vxsnd/internal/control"
	"vxsnd/internal/fdb"
)

// maxWarnings is how many warnings an answer has.
const maxWarnings = 10

// An item is an element of an upload.
type item struct {
	pair
	at int // which one it is
}

// replaceEntries replaces all entries that operators made by those of an upload:
// the new ones come before the old ones go. Where one is refused all stays as it
// was.
func (n *Node) replaceEntries(ctx context.Context, _ *struct{}, call *control.Call) error {
	c := n.config()
	items, err := receiveItems(call, c.Limits.MaxEntries)
	if err != nil {
		return err
	}
	release, err := n.hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	c = n.config() // another may have come into force meanwhile
	add, gone, err := n.compare(items, &c.Limits)
	if err != nil {
		return err
	}
	us := make([]fdb.Update, len(add))
	for i := range add {
		us[i] = add[i].update(fdb.Operator, fdb.Static)
	}
	if no := n.exchange(us, gone, tableOptions(&c)); no != nil {
		return add[no.item].refuse(no.why)
	}
	out := control.FDBReplaced{Added: len(add), Removed: len(gone), Kept: len(items) - len(add), Warnings: n.fileWarnings(items)}
	n.log.WithFields(logrus.Fields{"count": len(items), "added": out.Added, "removed": out.Removed}).Info("operator replaced members")
	return call.Send(&out)
}

// exchange adds members and then withdraws others, or leaves all as it was where
// one is refused: somebody else may have taken the room that there was a moment
// ago. The options are those in force.
func (n *Node) exchange(add, gone []fdb.Update, o fdb.Options) *refused {
	n.table.Configure(clock(), besides(o, len(gone)))
	taken, no := n.addMembers(add)
	if no != nil {
		// Nobody withdrew what was never there: StaticOnly leaves no tombstones.
		for i := range taken {
			taken[i].Holdtime, taken[i].StaticOnly = 0, true
		}
		gone = taken
	}
	n.table.Apply(clock(), gone)
	n.table.Configure(clock(), o)
	return no
}

// receiveItems reads an upload of at most this many elements and returns each
// pair of it once, in order.
func receiveItems(call *control.Call, most int) ([]item, error) {
	var items []item
	count := 0
	for {
		raw, err := call.Receive()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		var part []changeArgs
		if err := control.DecodePiece(raw, &part); err != nil {
			return nil, err
		}
		for i := range part {
			p, err := operated(&part[i])
			if err == nil && len(items) == most {
				err = &control.Error{
					Code: control.CodeFailed, Text: fmt.Sprintf("more than %d entries", most), Hint: "raise max_entries",
				}
			}
			if err != nil {
				if e := (*control.Error)(nil); errors.As(err, &e) {
					e.Item = &count
				}
				return nil, err
			}
			items = append(items, item{p, count})
			count++
		}
	}
	slices.SortFunc(items, func(a, b item) int { return cmp.Or(a.compare(b.pair), cmp.Compare(a.at, b.at)) })
	return slices.CompactFunc(items, func(a, b item) bool { return a.pair == b.pair }), nil
}

// compare returns what turns the operators' entries of now into items, which are
// in order. An error names the first that there will be no room for, however many
// learned entries go for it.
func (n *Node) compare(items []item, limits *config.Limits) (add []item, gone []fdb.Update, _ error) {
	vnis := n.table.VNIs(nil)
	for i := range items {
		vnis = append(vnis, items[i].vni)
	}
	slices.Sort(vnis)
	vnis = slices.Compact(vnis)

	now := clock()
	used, entries := 0, 0 // what stays, without what is learned
	var opened []int      // in add, the first of each VNI that is new
	var es []fdb.Entry
	for _, vni := range vnis {
		k := 0
		for k < len(items) && items[k].vni == vni {
			k++
		}
		var own []item // of this VNI
		own, items = items[:k], items[k:]
		es = n.table.Entries(now, vni, es[:0])
		held := make(map[netip.Addr]struct{}) // by operators
		stay := make(map[netip.Addr]struct{})
		for i := range es {
			switch e := &es[i]; e.Source {
			case fdb.Data:
			case fdb.Operator:
				held[e.Addr] = struct{}{}
			default:
				stay[e.Addr] = struct{}{}
				entries++
			}
		}
		own = slices.DeleteFunc(slices.Clone(own), func(it item) bool {
			a := it.update(fdb.Operator, 0).Addr
			_, is := held[a]
			if is {
				delete(held, a)
				stay[a] = struct{}{}
				entries++
			}
			return is
		})
		for a := range held {
			gone = append(gone, pair{vni, a.As16()}.update(fdb.Operator, 0))
		}
		if len(stay) > 0 {
			used++
		} else if len(own) > 0 {
			opened = append(opened, len(add))
		}
		for _, it := range own {
			stay[it.update(fdb.Operator, 0).Addr] = struct{}{}
			if len(stay) > limits.MaxMembers {
				return nil, nil, it.refuse(fdb.RefusedMembers)
			}
		}
		add = append(add, own...)
	}
	if room := max(0, limits.MaxVNIs-used); len(opened) > room {
		return nil, nil, add[opened[room]].refuse(fdb.RefusedVNIs)
	}
	if room := max(0, limits.MaxEntries-entries); len(add) > room {
		return nil, nil, add[room].refuse(fdb.RefusedEntries)
	}
	return add, gone, nil
}

// refuse is the error for an item that there is no room for.
func (it item) refuse(why fdb.Refusal) error {
	e := (&refused{it.update(fdb.Operator, 0), why, 0}).ofOperator()
	e.Item = &it.at
	return e
}

// fileWarnings are about those addresses that get no copies.
func (n *Node) fileWarnings(items []item) (warnings []string) {
	for i := range items {
		w := n.noCopies(items[i].update(fdb.Operator, 0).Addr)
		if w == "" || slices.Contains(warnings, w) {
			continue
		}
		if warnings = append(warnings, w); len(warnings) == maxWarnings {
			break
		}
	}
	return warnings
}
