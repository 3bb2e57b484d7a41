// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"time"

	"vxsnd/internal/control"
	"vxsnd/internal/fdb"
	"vxsnd/internal/vxlan"
)

const (
	// monitorCapacity is how many changes wait for one client at most, 1.4 MB; what
	// does not fit is lost.
	monitorCapacity = 1 << 14

	// monitorPause is the time for which changes gather after some were sent.
	monitorPause = 50 * time.Millisecond
)

// events are the words for changes.
var events = map[fdb.Kind]string{
	fdb.Added: control.EventAdded, fdb.Refreshed: control.EventRefreshed, fdb.Removed: control.EventRemoved,
}

// monitor sends changes of the table as they happen, until ctx is done.
func (n *Node) monitor(ctx context.Context, args *control.MonitorArgs, call *control.Call) error {
	all, only := args.VNI == nil, vxlan.VNI(0)
	if !all {
		var err error
		if only, err = checkVNI(*args.VNI); err != nil {
			return err
		}
	}
	kinds := fdb.KindAdded | fdb.KindRemoved
	if args.Refreshed {
		kinds |= fdb.KindRefreshed
	}
	feed := n.table.Subscribe(monitorCapacity, kinds)
	defer feed.Close()
	if err := call.Send([]control.MembershipEvent{}); err != nil {
		return err
	}
	var changes []fdb.Change
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-feed.C():
		}
		var lost bool
		changes, lost = feed.Take(changes[:0])
		wall, now := time.Now(), clock()
		part := make([]control.MembershipEvent, 0, min(len(changes)+1, control.MaxPart))
		send := func(e control.MembershipEvent) error {
			e.Time = wall
			if part = append(part, e); len(part) < control.MaxPart {
				return nil
			}
			defer func() { part = part[:0] }()
			return call.Send(part)
		}
		for i := range changes {
			c := &changes[i]
			if !all && c.VNI != only {
				continue
			}
			e := control.MembershipEvent{
				Event: events[c.Kind], Reason: c.Reason.String(),
				VNI: uint32(c.VNI), Address: c.Addr, Source: c.Source.String(), Identifier: c.Identifier,
			}
			if c.Kind != fdb.Removed {
				e.Seconds = secondsLeft(now, c.Expires)
			}
			if err := send(e); err != nil {
				return err
			}
		}
		if lost {
			if err := send(control.MembershipEvent{Event: control.EventLost}); err != nil {
				return err
			}
		}
		if len(part) > 0 {
			if err := call.Send(part); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(monitorPause):
		}
	}
}
