// SPDX-License-Identifier: Apache-2.0

package headend

import (
	"bytes"
	"context"
	"maps"
	"net/netip"
	"os"
	"slices"
)

// Break has the journal be written no more, as on a full disk, until the
// function that it returns is called. Nothing may run meanwhile.
func (l *Lists) Break() (mend func() error, err error) {
	f, err := os.Open(l.journal.o.StateFile)
	if err != nil {
		return nil, err
	}
	replace := func(f *os.File) *os.File {
		l.mu.Lock() // Run does before it writes: it sees the change
		defer l.mu.Unlock()
		former := l.journal.file
		l.journal.file = f
		return former
	}
	good := replace(f)
	return func() error { return replace(good).Close() }, nil
}

// Journaled returns the entries that a state file tells of.
func Journaled(content []byte, o Options) map[Key][]netip.Addr {
	c, _ := read(bytes.NewReader(content), o)
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
