// SPDX-License-Identifier: Apache-2.0

package headend

import (
	"bytes"
	"context"
	"maps"
	"net/netip"
	"slices"
	"syscall"
)

// A fullDisk takes nothing more behind the end of the file. What it is asked to
// write there is torn.
type fullDisk struct{ disk }

func (d fullDisk) WriteAt(b []byte, off int64) (int, error) {
	info, err := d.Stat()
	if err != nil || off+int64(len(b)) <= info.Size() {
		return d.disk.WriteAt(b, off)
	}
	n, _ := d.disk.WriteAt(b[:len(b)/2], off)
	return n, syscall.ENOSPC
}

// Fill has the journal be on a full disk until the function that it returns is
// called. Nothing may run meanwhile.
func (l *Lists) Fill() (free func()) {
	replace := func(d disk) {
		l.mu.Lock() // Run does before it writes: it sees the change
		defer l.mu.Unlock()
		l.journal.file = d
	}
	good := l.journal.file
	replace(fullDisk{good})
	return func() { replace(good) }
}

// Journaled returns the entries that a state file tells of.
func Journaled(content []byte, o Options) map[Key][]netip.Addr {
	c := read(bytes.NewReader(content), o)
	lists := map[Key][]netip.Addr{}
	for k, set := range c.lists {
		if len(set) > 0 {
			lists[k] = normal(slices.Collect(maps.Keys(set)))
		}
	}
	return lists
}

// Pass does at once what Run does when it has something to do. Run must not run.
func (l *Lists) Pass(compare bool) { l.pass(context.Background(), compare) }
