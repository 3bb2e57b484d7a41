// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"vxsnd/internal/control"
	"vxsnd/internal/fdb"
	"vxsnd/internal/vxlan"
)

// tableOf returns a table whose VNI i has sizes[i] members, and the addresses of
// those in no order.
func tableOf(t *testing.T, sizes ...int) *fdb.Table {
	t.Helper()
	table := fdb.New(fdb.Options{})
	var us []fdb.Update
	for vni, size := range sizes {
		for i := range size {
			us = append(us, fdb.Update{
				VNI: vxlan.VNI(vni), Addr: netip.AddrFrom4([4]byte{10, byte(i), byte(i >> 8), byte(i >> 16)}),
				Source: fdb.Operator, Holdtime: fdb.Static,
			})
		}
	}
	if r := table.Apply(clock(), us); r.Added != len(us) {
		t.Fatalf("got %d entries, want %d", r.Added, len(us))
	}
	return table
}

// second gives each tenth member of the table another entry.
func second(t *testing.T, table *fdb.Table) {
	t.Helper()
	for _, vni := range table.VNIs(nil) {
		for i, a := range table.Members(clock(), vni, nil) {
			if i%10 == 0 {
				table.Apply(clock(), []fdb.Update{{VNI: vni, Addr: a, Source: fdb.Configuration, Holdtime: fdb.Static}})
			}
		}
	}
}

func TestAListingHasEachEntryOnceAndInOrder(t *testing.T) {
	table := tableOf(t, 7, pageEntries, pageEntries-1, 1, 3*pageEntries+5, 2*pageEntries, 2)
	second(t, table)
	type key struct {
		vni    uint32
		addr   netip.Addr
		source string
	}
	for _, name := range []string{"whole", "by page"} {
		t.Run(name, func(t *testing.T) {
			l := newLister(table)
			if name == "by page" {
				for range maxWhole {
					l.whole <- struct{}{}
				}
			}
			var got []key
			check(t, l.send(context.Background(), table.VNIs(nil), everything, func(v any) error {
				for _, e := range v.(control.FDBPart) {
					got = append(got, key{e.VNI, e.Address, e.Source})
				}
				return nil
			}))
			if want := table.Stats().Entries; len(got) != want {
				t.Errorf("got %d entries, want %d", len(got), want)
			}
			for i := 1; i < len(got); i++ {
				a, b := got[i-1], got[i]
				c := a.addr.Compare(b.addr)
				// By its number configuration comes after operator.
				if a.vni > b.vni || a.vni == b.vni && (c > 0 || c == 0 && (a.source != "operator" || b.source != "configuration")) {
					t.Fatalf("entry %d: got %v after %v, want the order of VNI, address and source", i, b, a)
				}
			}
			if room := <-l.turn; room != nil {
				t.Errorf("got room for %d entries kept, want none", cap(room))
			}
		})
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// heap returns how many bytes of the heap are in use.
func heap() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

func TestClientsThatDoNotReadHoldLittle(t *testing.T) {
	const clients, size = 24, 4 * pageEntries
	l := newLister(tableOf(t, size))
	vnis := []vxlan.VNI{0}
	gone := errors.New("client is gone")
	before := heap()
	release := make(chan struct{})
	var wait, done sync.WaitGroup
	wait.Add(clients)
	for range clients {
		done.Go(func() {
			err := l.send(context.Background(), vnis, everything, func(any) error {
				wait.Done()
				<-release
				return gone
			})
			if !errors.Is(err, gone) {
				t.Errorf("got %v, want %v", err, gone)
			}
		})
	}
	wait.Wait()
	// 4 MiB each and what append keeps ready would be more than 100 MiB.
	const mib = 1 << 20
	if got, want := heap()-before, 80*mib; got > want {
		t.Errorf("got %d MiB held, want %d at most", got/mib, want/mib)
	}
	// Nobody waits for them.
	got := 0
	check(t, l.send(context.Background(), vnis, everything, func(v any) error {
		got += len(v.(control.FDBPart))
		return nil
	}))
	if got != size {
		t.Errorf("got %d entries, want %d", got, size)
	}
	close(release)
	done.Wait()
	if len(l.whole) != 0 || <-l.turn != nil {
		t.Error("got room kept after the last listing, want none")
	}
}

func TestAListingThatWaitsForItsTurnEndsWithTheServer(t *testing.T) {
	l := newLister(tableOf(t, 1))
	<-l.turn
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	err := l.send(ctx, []vxlan.VNI{0}, everything, func(any) error { return nil })
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
	}
}
