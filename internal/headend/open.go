// SPDX-License-Identifier: Apache-2.0

package headend

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"

	"vxsnd/internal/logging"
	"vxsnd/internal/underlay"
)

// Open locks and reads the journal, and makes it where there is none. What is in
// the journal and in the kernel is own. The error about a file that another
// process has locked matches ErrInUse; an error that an operator can do
// something about has a startup.Hint.
func Open(o Options) (*Lists, error) { return open(o, true) }

// ErrOtherSpace says that there may be entries, but not here.
var ErrOtherSpace = errors.New("is about another network namespace")

// open is Open. Without daemon it makes no file, and leaves what is about
// another namespace.
func open(o Options, daemon bool) (*Lists, error) {
	l := &Lists{
		kernel:   o.Kernel,
		log:      logging.OrDiscard(o.Log).WithField("task", task),
		wake:     make(chan struct{}, 1),
		left:     map[int]struct{}{},
		lists:    map[Key]*list{},
		places:   map[place][]*list{},
		settings: o.Settings,
	}
	j, c, err := openJournal(o, daemon)
	if err != nil {
		return nil, err
	}
	l.journal = j
	if c.err != nil {
		l.log.WithError(c.err).Warn("state file could not be read to its end")
	}
	if c.bad > 0 {
		l.log.WithField("count", c.bad).Warn("lines of the state file mean nothing")
	}
	if c.kind == otherSpace && !daemon {
		err = fmt.Errorf("state file %s: %w", o.StateFile, ErrOtherSpace)
	} else {
		err = l.adopt(c.lists)
	}
	if err != nil {
		return nil, errors.Join(err, j.close())
	}
	if c.zeros {
		l.log.Warn("state file holds nothing but zeros: begun anew")
	}
	if c.kind == otherSpace {
		l.log.Warn("state file is about another network namespace: begun anew")
	}
	l.compact()
	return l, nil
}

// adopt makes lists of what is in the journal and in the kernel.
func (l *Lists) adopt(journal map[Key]map[netip.Addr]struct{}) error {
	t, err := l.kernel.Read(0)
	if err != nil {
		return fmt.Errorf("read flood entries: %w", err)
	}
	there := byPlace(t)
	for k, set := range journal {
		var own []netip.Addr
		for _, a := range there[k.place()] {
			if _, ok := set[a]; ok {
				own = append(own, a)
			}
		}
		if len(own) > 0 {
			li := l.make(k)
			li.own, li.foreign = own, without(there[k.place()], own)
		}
	}
	l.managed = maps.Clone(t.Managed)
	return nil
}

// byPlace sorts the entries of the kernel.
func byPlace(t underlay.FloodTable) map[place][]netip.Addr {
	m := map[place][]netip.Addr{}
	for _, e := range t.Entries {
		p := place{e.Index, e.VNI}
		m[p] = append(m[p], e.Dst)
	}
	for p, addrs := range m {
		m[p] = normal(addrs)
	}
	return m
}

// Cleanup removes what a daemon that was killed has left, and returns how many
// entries that were. The error matches ErrInUse while the daemon runs, and
// ErrOtherSpace where it ran in another network namespace.
func Cleanup(o Options) (removed int, err error) {
	l, err := open(o, false)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	before := l.owned()
	err = l.Flush()
	return before - l.owned(), errors.Join(err, l.Close())
}

// Left returns how many entries Cleanup would remove. It changes no entry, so it
// needs no privilege. Its errors are those of Cleanup.
func Left(o Options) (int, error) {
	l, err := open(o, false)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return l.owned(), l.Close()
}

// owned returns the number of own entries.
func (l *Lists) owned() (n int) {
	for _, s := range l.Status() {
		n += s.Own
	}
	return n
}
