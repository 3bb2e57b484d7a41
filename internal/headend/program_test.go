// SPDX-License-Identifier: Apache-2.0

package headend_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"vxsnd/internal/headend"
	"vxsnd/internal/underlay"
)

func TestSetAddsAndRemovesWhatDiffers(t *testing.T) {
	k := newKernel(t, 5, 6)
	inBubble(t, k, func(t *testing.T, d *daemon) {
		d.set(one, "10.0.0.2", "10.0.0.1", "10.0.0.2", "::ffff:10.0.0.3")
		d.has(us, 5, "10.0.0.1", "10.0.0.2", "10.0.0.3")
		d.status(one, headend.Status{Wanted: 3, Own: 3})
		k.applied = nil
		d.set(one, "10.0.0.1", "10.0.0.4", "10.0.0.5")
		want := []underlay.FloodChange{
			{FloodEntry: entry(5, "10.0.0.4")}, {FloodEntry: entry(5, "10.0.0.5")},
			{FloodEntry: entry(5, "10.0.0.2"), Remove: true}, {FloodEntry: entry(5, "10.0.0.3"), Remove: true},
		}
		if !slices.Equal(k.applied, want) {
			t.Errorf("got changes %v, want %v: the additions first", k.applied, want)
		}
		d.has(us, 6)
		d.drop(one, two)
		d.has(us, 5)
		if got := d.lists.Status(); len(got) != 0 {
			t.Errorf("got status %v after the drop, want none", got)
		}
	})
}

func TestSameSetDoesNothing(t *testing.T) {
	k := newKernel(t, 5)
	inBubble(t, k, func(t *testing.T, d *daemon) {
		d.set(one, "10.0.0.1", "10.0.0.2")
		k.reads = nil
		d.set(one, "10.0.0.2", "10.0.0.1")
		d.set(one, "10.0.0.2") // a removal needs no look
		if len(k.reads) != 0 {
			t.Errorf("got %d reads, want none", len(k.reads))
		}
	})
}

func TestManyListsAreReadOnce(t *testing.T) {
	const many = 2000
	k := newKernel(t)
	lists := map[headend.Key][]netip.Addr{}
	for i := 1; i <= many; i++ {
		k.devices[i] = true
		key := headend.Key{Device: fmt.Sprintf("vxlan%d", i), Index: i, VNI: 1}
		lists[key] = addrs("10.0.0.1", "10.0.0.2", "10.0.0.3")
	}
	inBubble(t, k, func(t *testing.T, d *daemon) {
		k.reads = nil
		d.lists.Set(lists)
		d.settle()
		if len(k.entries) != 3*many {
			t.Errorf("got %d entries, want %d", len(k.entries), 3*many)
		}
		if want := []int{0}; !slices.Equal(k.reads, want) {
			t.Errorf("got reads of %v, want %v", k.reads, want)
		}
		d.drop(slices.Collect(maps.Keys(lists))...)
		if len(k.entries) != 0 {
			t.Errorf("got %d entries after the drop, want none", len(k.entries))
		}
	})
}

func TestForeignEntriesAreNotTouched(t *testing.T) {
	for _, quiet := range []bool{true, false} {
		t.Run(fmt.Sprintf("quiet=%v", quiet), func(t *testing.T) {
			k := newKernel(t, 5)
			k.quiet = quiet
			k.entries[entry(5, "10.0.0.1")] = others
			k.entries[entry(5, "10.0.0.9")] = others
			inBubble(t, k, func(t *testing.T, d *daemon) {
				d.set(one, "10.0.0.1", "10.0.0.2")
				d.status(one, headend.Status{Wanted: 2, Own: 1, Foreign: 2})
				d.compare()
				d.set(one, "10.0.0.2")
				d.set(one, "10.0.0.1", "10.0.0.2")
				d.restart()
				d.status(one, headend.Status{Own: 1, Foreign: 2})
				d.set(one, "10.0.0.1", "10.0.0.2")
				d.status(one, headend.Status{Wanted: 2, Own: 1, Foreign: 2})
				delete(k.entries, entry(5, "10.0.0.1"))
				d.compare()
				d.has(us, 5, "10.0.0.1", "10.0.0.2")
				d.status(one, headend.Status{Wanted: 2, Own: 2, Foreign: 1})
				d.drop(one)
				d.has(us, 5)
				d.has(others, 5, "10.0.0.9")
			})
		})
	}
}

func TestSomebodyElseIsFaster(t *testing.T) {
	k := newKernel(t, 5)
	k.quiet = false
	k.before = func(changes []underlay.FloodChange) {
		if !changes[0].Remove {
			k.entries[entry(5, "10.0.0.1")] = others
		}
	}
	inBubble(t, k, func(t *testing.T, d *daemon) {
		d.set(one, "10.0.0.1", "10.0.0.2")
		d.status(one, headend.Status{Wanted: 2, Own: 1, Foreign: 1})
		k.before = nil
		d.restart()
		d.lists.Keep(nil)
		d.settle()
		d.has(us, 5)
		d.has(others, 5, "10.0.0.1")
	})
}

func TestRemovedEntriesArePutBack(t *testing.T) {
	k := newKernel(t, 5, 6)
	inBubble(t, k, func(t *testing.T, d *daemon) {
		d.set(one, "10.0.0.1", "10.0.0.2")
		d.set(two, "10.0.0.1")
		clear(k.entries)
		d.compare()
		d.has(us, 5, "10.0.0.1", "10.0.0.2")
		d.has(us, 6, "10.0.0.1")
		d.compare()
		if lines, count := d.logged("flood entries that something else removed are put back"); lines != 1 || count != 3 {
			t.Errorf("got %d lines with count %v, want one with 3", lines, count)
		}
	})
}

func TestRefusedAdditionsAreTriedAgain(t *testing.T) {
	k := newKernel(t, 5)
	k.refuse = func(c underlay.FloodChange) bool { return c.Dst == netip.MustParseAddr("10.0.0.2") }
	inBubble(t, k, func(t *testing.T, d *daemon) {
		d.set(one, "10.0.0.1", "10.0.0.2", "10.0.0.3")
		d.has(us, 5, "10.0.0.1", "10.0.0.3")
		d.problem(one, errTest.Error())
		d.compare()
		// What was refused is not ours if somebody else makes it.
		k.entries[entry(5, "10.0.0.2")] = others
		d.restart()
		d.set(one, "10.0.0.1", "10.0.0.3")
		d.status(one, headend.Status{Wanted: 2, Own: 2, Foreign: 1})
		delete(k.entries, entry(5, "10.0.0.2"))
		d.set(one, "10.0.0.1", "10.0.0.2", "10.0.0.3")
		k.refuse = nil
		d.compare()
		d.has(us, 5, "10.0.0.1", "10.0.0.2", "10.0.0.3")
		d.problem(one, "")
		if lines, _ := d.logged("flood entries cannot be changed"); lines != 1 {
			t.Errorf("got %d warnings, want 1: at most one a minute", lines)
		}
	})
}

func TestRefusedRemovalsAreTriedAgain(t *testing.T) {
	k := newKernel(t, 5)
	inBubble(t, k, func(t *testing.T, d *daemon) {
		d.set(one, "10.0.0.1", "10.0.0.2")
		k.refuse = func(underlay.FloodChange) bool { return true }
		d.drop(one)
		d.problem(one, errTest.Error())
		d.status(one, headend.Status{Own: 2})
		k.refuse = nil
		d.compare()
		d.has(us, 5)
		if got := d.lists.Status(); len(got) != 0 {
			t.Errorf("got status %v, want none", got)
		}
	})
}

func TestNothingIsAddedUnseen(t *testing.T) {
	k := newKernel(t, 5)
	inBubble(t, k, func(t *testing.T, d *daemon) {
		d.set(one, "10.0.0.1")
		k.readErr = errTest
		d.set(one, "10.0.0.2")
		d.has(us, 5)
		d.problem(one, "read flood entries: "+errTest.Error())
		k.readErr = nil
		d.compare()
		d.has(us, 5, "10.0.0.2")
		d.problem(one, "")
	})
}

func TestDeviceIsGone(t *testing.T) {
	k := newKernel(t, 5)
	inBubble(t, k, func(t *testing.T, d *daemon) {
		d.set(one, "10.0.0.1", "10.0.0.2")
		k.remake(5, 7)
		d.set(one, "10.0.0.3")
		d.status(one, headend.Status{Wanted: 1})
		d.problem(one, "the device is gone")
		k.entries[entry(7, "10.0.0.1")] = others
		again := headend.Key{Device: one.Device, Index: 7, VNI: one.VNI}
		d.set(again, "10.0.0.1", "10.0.0.2")
		d.drop(one)
		d.status(again, headend.Status{Wanted: 2, Own: 1, Foreign: 1})
		k.remake(7, 8)
		d.drop(again)
		if got := d.lists.Status(); len(got) != 0 {
			t.Errorf("got status %v, want none", got)
		}
		if lines, _ := d.logged("flood entries cannot be changed"); lines != 0 {
			t.Errorf("got %d warnings, want none", lines)
		}
	})
}

func TestRenamedDeviceHasAnotherList(t *testing.T) {
	k := newKernel(t, 5)
	inBubble(t, k, func(t *testing.T, d *daemon) {
		d.set(one, "10.0.0.1", "10.0.0.2")
		renamed := headend.Key{Device: "other", Index: one.Index, VNI: one.VNI}
		d.set(renamed, "10.0.0.2", "10.0.0.3")
		d.has(us, 5, "10.0.0.2", "10.0.0.3")
		d.status(renamed, headend.Status{Wanted: 2, Own: 2})
		d.drop(one)
		d.has(us, 5, "10.0.0.2", "10.0.0.3")
		d.restart()
		if got := d.lists.Adopted(); len(got) != 1 || !slices.Equal(got[renamed], addrs("10.0.0.2", "10.0.0.3")) {
			t.Errorf("got %v adopted, want those of the new name", got)
		}
	})
}

func TestExternalDeviceHasListsByVNI(t *testing.T) {
	k := newKernel(t, 5)
	inBubble(t, k, func(t *testing.T, d *daemon) {
		a := headend.Key{Device: "vx", Index: 5, VNI: 10, External: true}
		b := headend.Key{Device: "vx", Index: 5, VNI: 20, External: true}
		other := underlay.FloodEntry{Index: 5, VNI: 20, Dst: netip.MustParseAddr("10.0.0.9")}
		k.entries[other] = others
		d.set(a, "10.0.0.1", "10.0.0.9")
		d.set(b, "10.0.0.1", "10.0.0.9")
		d.status(a, headend.Status{Wanted: 2, Own: 2})
		d.status(b, headend.Status{Wanted: 2, Own: 1, Foreign: 1})
		d.restart()
		d.lists.Keep(map[headend.Key]struct{}{b: {}})
		d.settle()
		want := map[underlay.FloodEntry]maker{{Index: 5, VNI: 20, Dst: netip.MustParseAddr("10.0.0.1")}: us, other: others}
		if !maps.Equal(k.entries, want) {
			t.Errorf("got entries %v, want %v", k.entries, want)
		}
	})
}

func TestManagedDeviceIsLeftAlone(t *testing.T) {
	const warning = "flood list left alone: another daemon manages the entries of the device (hrep_devices)"
	k := newKernel(t, 5, 6)
	inBubble(t, k, func(t *testing.T, d *daemon) {
		d.set(one, "10.0.0.1")
		d.set(two, "10.0.0.1")
		k.managed[5] = struct{}{}
		k.entries[entry(5, "10.0.0.7")] = others
		d.compare()
		d.has(us, 5)
		d.status(one, headend.Status{Wanted: 1, Foreign: 1, Managed: true})
		d.set(one, "10.0.0.1", "10.0.0.2")
		d.compare()
		d.has(us, 5)
		d.has(us, 6, "10.0.0.1")
		if lines, _ := d.logged(warning); lines != 1 {
			t.Errorf("got %d warnings, want 1", lines)
		}
		d.lists.Configure(headend.Settings{Interval: interval, Devices: []string{"vxlan1"}})
		d.settle()
		d.has(us, 5, "10.0.0.1", "10.0.0.2")
		d.status(one, headend.Status{Wanted: 2, Own: 2, Foreign: 1})
		d.lists.Configure(headend.Settings{Interval: interval})
		d.settle()
		d.has(us, 5)
		delete(k.managed, 5)
		d.compare()
		d.has(us, 5, "10.0.0.1", "10.0.0.2")
		if lines, _ := d.logged(warning); lines != 2 {
			t.Errorf("got %d warnings, want 2", lines)
		}
	})
}

func TestManagedDeviceIsSeenBeforeTheFirstAddition(t *testing.T) {
	k := newKernel(t, 5)
	inBubble(t, k, func(t *testing.T, d *daemon) {
		k.managed[5] = struct{}{}
		d.set(one, "10.0.0.1")
		d.has(us, 5)
		d.status(one, headend.Status{Wanted: 1, Managed: true})
	})
}

func TestIntervalChangesAtOnce(t *testing.T) {
	k := newKernel(t, 5)
	inBubble(t, k, func(t *testing.T, d *daemon) {
		d.set(one, "10.0.0.1")
		reads := func(wait time.Duration) int {
			k.reads = nil
			d.wait(wait)
			return len(k.reads)
		}
		if got := reads(10 * interval); got != 10 {
			t.Errorf("got %d comparisons, want 10", got)
		}
		d.lists.Configure(headend.Settings{Interval: time.Hour})
		if got := reads(time.Hour - 1); got != 1 {
			t.Errorf("got %d comparisons, want one for the new settings", got)
		}
		if got := reads(1); got != 1 {
			t.Errorf("got %d comparisons after an hour, want 1", got)
		}
		d.lists.Configure(headend.Settings{})
		if got := reads(10*time.Minute + pause); got != 11 {
			t.Errorf("got %d comparisons, want one at once and one each minute", got)
		}
	})
}

func TestFlushRemovesAllThatIsOwn(t *testing.T) {
	k := newKernel(t, 5, 6)
	k.entries[entry(5, "10.0.0.9")] = others
	inBubble(t, k, func(t *testing.T, d *daemon) {
		d.set(one, "10.0.0.1", "10.0.0.9")
		d.restart()
		d.set(two, "10.0.0.1")
		d.stop()
		synctest.Wait()
		if err := d.lists.Flush(); err != nil {
			t.Error(err)
		}
		d.has(us, 5)
		d.has(us, 6)
		d.has(others, 5, "10.0.0.9")
	})
}

func TestFlushTellsWhatStays(t *testing.T) {
	k := newKernel(t, 5)
	inBubble(t, k, func(t *testing.T, d *daemon) {
		d.set(one, "10.0.0.1")
		d.stop()
		synctest.Wait()
		k.refuse = func(underlay.FloodChange) bool { return true }
		err := d.lists.Flush()
		if want := "1 flood entries stay: out of order"; err == nil || err.Error() != want {
			t.Errorf("got error %v, want %q", err, want)
		}
	})
}
