// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// A key is one that top knows.
type key int

const (
	keyNone key = iota
	keyQuit
	keyStop // Ctrl-Z
	keyUp
	keyDown
	keyLeft
	keyRight
	keyPageUp
	keyPageDown
	keyHome
	keyEnd
)

// keySequences are what terminals send for keys (ECMA-48, and xterm's application
// mode for those of the cursor).
var keySequences = map[string]key{
	"q": keyQuit, "Q": keyQuit, "\x03": keyQuit, "\x1c": keyQuit, "\x1a": keyStop,
	"\x1b[A": keyUp, "\x1bOA": keyUp, "k": keyUp,
	"\x1b[B": keyDown, "\x1bOB": keyDown, "j": keyDown,
	"\x1b[C": keyRight, "\x1bOC": keyRight, ">": keyRight, "l": keyRight,
	"\x1b[D": keyLeft, "\x1bOD": keyLeft, "<": keyLeft, "h": keyLeft,
	"\x1b[5~": keyPageUp, "\x1b[6~": keyPageDown, " ": keyPageDown,
	"\x1b[H": keyHome, "\x1bOH": keyHome, "\x1b[1~": keyHome, "g": keyHome,
	"\x1b[F": keyEnd, "\x1bOF": keyEnd, "\x1b[4~": keyEnd, "G": keyEnd,
}

// maxSequence is the length of the longest of keySequences.
const maxSequence = 4

// nextKey takes one key off what a terminal has sent: keyNone for one that top
// does not know. It returns false where more is to come first.
func nextKey(sent string) (k key, rest string, ok bool) {
	for n := 1; n <= min(maxSequence, len(sent)); n++ {
		if k, ok := keySequences[sent[:n]]; ok {
			return k, sent[n:], true
		}
	}
	more := slices.ContainsFunc([]string{"\x1b[", "\x1bO"}, func(start string) bool {
		return strings.HasPrefix(start, sent) || strings.HasPrefix(sent, start) && len(sent) < maxSequence
	})
	if sent == "" || more {
		return keyNone, sent, false
	}
	return keyNone, sent[1:], true
}

// A keyboard is where the user types while the screen is drawn on, which is the
// terminal of the process and no other input. Its zero value has no keys.
type keyboard struct {
	keys chan key

	tty    *os.File // nil where there is none
	before *term.State
	done   sync.WaitGroup
	over   chan struct{}
}

// newKeyboard grabs the keyboard. A key that ends the program calls quit, at once
// and whatever the program does at the time.
func newKeyboard(quit context.CancelFunc) *keyboard {
	// A file of its own: a read that is under way is ended by a deadline, and what
	// others do with theirs is not changed.
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return &keyboard{}
	}
	k := &keyboard{keys: make(chan key), tty: tty, over: make(chan struct{})}
	k.grab()
	k.done.Go(func() { k.read(quit) })
	return k
}

// each calls fn with the descriptor of the terminal. File.Fd would make it a
// blocking one.
func (k *keyboard) control(fn func(fd int)) {
	if k.tty == nil {
		return
	}
	raw, err := k.tty.SyscallConn()
	if err == nil {
		_ = raw.Control(func(fd uintptr) { fn(int(fd)) }) // fails on a closed file alone
	}
}

// grab has the terminal send each key as it is hit, and print none.
func (k *keyboard) grab() {
	k.control(func(fd int) {
		if before, err := term.MakeRaw(fd); err == nil && k.before == nil {
			k.before = before
		}
	})
}

// release has the terminal do what it did before.
func (k *keyboard) release() {
	k.control(func(fd int) {
		if k.before != nil {
			_ = term.Restore(fd, k.before) // a terminal that is gone has nothing to restore
		}
	})
}

// close releases the keyboard, and waits for who reads from it.
func (k *keyboard) close() {
	if k.tty == nil {
		return
	}
	k.release()
	close(k.over)
	_ = k.tty.SetReadDeadline(time.Now())
	k.done.Wait()
	_ = k.tty.Close()
}

// read reads keys until the end.
func (k *keyboard) read(quit context.CancelFunc) {
	b := make([]byte, 64)
	sent := ""
	for {
		n, err := k.tty.Read(b)
		if err != nil {
			return
		}
		sent += string(b[:n])
		for {
			key, rest, ok := nextKey(sent)
			if sent = rest; !ok {
				break
			}
			if key == keyQuit {
				quit()
			}
			select {
			case k.keys <- key:
			case <-k.over:
				return
			}
		}
	}
}
