// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vxsnd/internal/control"
	"vxsnd/internal/fdb"
	"vxsnd/internal/vxlan"
)

// A stream is a client that watches.
type stream[T any] struct {
	pieces chan T
	read   chan struct{} // the client takes nothing until this is closed
	cancel context.CancelFunc
	ended  chan error
}

// watching begins a stream, whose client reads at once unless it is hung. It ends
// with the test.
func watching[T any](t *testing.T, n *Node, command string, args any, hung bool) *stream[T] {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s := &stream[T]{make(chan T, 1000), make(chan struct{}), cancel, make(chan error, 1)}
	if !hung {
		close(s.read)
	}
	first := true
	go func() {
		s.ended <- give(ctx, t, n, command, args, func(v any) error {
			if !first { // which tells that the stream has begun
				select {
				case <-s.read:
				case <-ctx.Done():
					return errBroken
				}
			}
			first = false
			s.pieces <- decoded[T](t, v)
			return nil
		}, nil)
	}()
	return s
}

// next returns the next piece.
func (s *stream[T]) next(t *testing.T) T {
	t.Helper()
	select {
	case p := <-s.pieces:
		return p
	case err := <-s.ended:
		s.ended <- err
		select {
		case p := <-s.pieces: // the last one, which came before the end
			return p
		default:
		}
		t.Fatalf("the stream ended with %v", err)
	case <-time.After(time.Minute):
		t.Fatal("nothing comes")
	}
	panic("unreachable")
}

// end has the client leave.
func (s *stream[T]) end(t *testing.T) {
	t.Helper()
	s.cancel()
	if err := <-s.ended; !errors.Is(err, context.Canceled) && !errors.Is(err, errBroken) {
		t.Errorf("got %v, want the client gone", err)
	}
}

func TestMonitor(t *testing.T) {
	defer goleak.VerifyNone(t)
	n := newNode(t)
	s := watching[[]control.MembershipEvent](t, n, control.CommandMonitor, object{"vni": 5, "refreshed": true}, false)
	defer s.end(t)
	if first := s.next(t); len(first) != 0 {
		t.Errorf("got %v at first, want nothing", first)
	}
	quiet := watching[[]control.MembershipEvent](t, n, control.CommandMonitor, object{}, false)
	defer quiet.end(t)
	quiet.next(t)

	hold := func(d time.Duration) {
		n.table.Apply(clock(), []fdb.Update{{VNI: 5, Addr: host(1), Identifier: 7, Source: fdb.Registration, Holdtime: d}})
	}
	put(t, n, fdb.Operator, 6, host(9))
	hold(time.Hour)
	hold(time.Hour)
	hold(0)
	seconds := int64(3600)
	want := []control.MembershipEvent{
		{Event: "added", VNI: 5, Address: host(1), Source: "registration", Identifier: 7, Seconds: &seconds},
		{Event: "refreshed", VNI: 5, Address: host(1), Source: "registration", Identifier: 7, Seconds: &seconds},
		{Event: "removed", Reason: "withdrawn", VNI: 5, Address: host(1), Source: "registration", Identifier: 7},
	}
	same := func(a, b control.MembershipEvent) bool {
		if a.Time.IsZero() || (a.Seconds == nil) != (b.Seconds == nil) || a.Seconds != nil && (*a.Seconds < 3590 || *a.Seconds > 3600) {
			return false
		}
		a.Time, a.Seconds, b.Seconds = time.Time{}, nil, nil
		return a == b
	}
	var got []control.MembershipEvent
	for len(got) < len(want) {
		got = append(got, s.next(t)...)
	}
	if !slices.EqualFunc(got, want, same) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	var all []string
	for len(all) < 3 {
		for _, e := range quiet.next(t) {
			all = append(all, e.Event+" "+vxlan.VNI(e.VNI).String())
		}
	}
	if want := []string{"added 6", "added 5", "removed 5"}; !slices.Equal(all, want) {
		t.Errorf("got %q of all VNIs, want %q", all, want)
	}
}

// A client that does not read holds nobody up, and is told that it missed
// something.
func TestMonitorOfAClientThatHangs(t *testing.T) {
	defer goleak.VerifyNone(t)
	n := newNode(t)
	s := watching[[]control.MembershipEvent](t, n, control.CommandMonitor, object{}, true)
	defer s.end(t)
	s.next(t)
	us := make([]fdb.Update, monitorCapacity+1)
	for round := range 3 {
		for i := range us {
			us[i] = fdb.Update{VNI: vxlan.VNI(i), Addr: host(byte(round + 1)), Source: fdb.Operator, Holdtime: fdb.Static}
		}
		if got := n.table.Apply(clock(), us).Added; got != len(us) {
			t.Fatalf("got %d added, want %d", got, len(us))
		}
	}
	close(s.read)
	told := 0
	for {
		events := s.next(t)
		if last := events[len(events)-1]; last.Event == control.EventLost {
			if told += last.Count; len(events) != 1 || told != 3*len(us) {
				t.Errorf("got %d changes told or counted as lost, want all %d", told, 3*len(us))
			}
			break
		}
		told += len(events)
	}
	// It goes on from there.
	put(t, n, fdb.Operator, 1, host(77))
	for {
		if slices.ContainsFunc(s.next(t), func(e control.MembershipEvent) bool { return e.Address == host(77) }) {
			break
		}
	}
}

// Changes of other VNIs, however many, and of the set of excluded addresses cost
// nobody an event, and are none.
func TestMonitorOfOneVNIMissesNothing(t *testing.T) {
	defer goleak.VerifyNone(t)
	n := newNode(t)
	s := watching[[]control.MembershipEvent](t, n, control.CommandMonitor, object{"vni": 5}, false)
	defer s.end(t)
	s.next(t)
	others := make([]fdb.Update, 2*monitorCapacity)
	for i := range others {
		others[i] = fdb.Update{VNI: vxlan.VNI(10 + i), Addr: host(1), Source: fdb.Operator, Holdtime: fdb.Static}
	}
	put(t, n, fdb.Operator, 5, host(1))
	n.table.Exclude(map[netip.Addr]fdb.Exclusion{host(9): fdb.ExcludedOwn})
	if got := n.table.Apply(clock(), others).Added; got != len(others) {
		t.Fatalf("got %d added, want %d", got, len(others))
	}
	n.table.Exclude(nil)
	put(t, n, fdb.Operator, 5, host(2))
	var got []string
	for len(got) < 2 {
		for _, e := range s.next(t) {
			got = append(got, e.Event+" "+e.Address.String())
		}
	}
	if want := []string{"added " + host(1).String(), "added " + host(2).String()}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
