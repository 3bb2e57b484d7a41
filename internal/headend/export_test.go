// SPDX-License-Identifier: Apache-2.0

package headend

import (
	"bytes"
	"os"
)

// Break has the journal be written no more, as on a full disk, until the
// function that it returns is called. Nothing may run meanwhile.
func (l *Lists) Break() (mend func() error, err error) {
	f, err := os.Open(l.journal.o.StateFile)
	if err != nil {
		return nil, err
	}
	good := l.journal.file
	l.journal.file = f
	return func() error {
		l.journal.file = good
		return f.Close()
	}, nil
}

// Journaled returns the entries that a state file tells of.
func Journaled(content []byte, o Options) map[Key]int {
	c, _ := read(bytes.NewReader(content), o)
	n := map[Key]int{}
	for k, set := range c.lists {
		if len(set) > 0 {
			n[k] = len(set)
		}
	}
	return n
}
