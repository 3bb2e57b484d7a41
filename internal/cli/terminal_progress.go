// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// patientTime is after which a command says what it is waiting for, and
// progressTime how often it says how far it is.
const (
	patientTime  = time.Second
	progressTime = 200 * time.Millisecond
)

// clearLine takes the cursor to the start of its line and erases the line
// (ECMA-48, CR and EL).
const clearLine = "\r\x1b[K"

// A progress is a line on stderr about what lasts. It is there from the moment
// that it has lasted for a second until it is over. It is safe for concurrent
// use.
type progress struct {
	w     io.Writer
	width int
	over  chan struct{}
	done  sync.WaitGroup

	mu      sync.Mutex // guards what follows
	text    string
	shown   bool
	stopped bool
}

// progress begins something that may last. The line is there only where stderr
// is a terminal. Whoever calls it calls stop before anything is printed to a
// terminal.
func (c *ctlCall) progress(format string, a ...any) *progress {
	text := fmt.Sprintf(format, a...)
	if t := terminalOf(c.stderr); t.on {
		return startProgress(c.stderr, t.width, text)
	}
	return &progress{over: make(chan struct{}), text: text}
}

func startProgress(w io.Writer, width int, text string) *progress {
	p := &progress{w: w, width: width, over: make(chan struct{}), text: text}
	p.done.Go(p.run)
	return p
}

// set changes what the line says.
func (p *progress) set(format string, a ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text = fmt.Sprintf(format, a...)
}

// stop erases the line. It may be called more than once.
func (p *progress) stop() {
	p.mu.Lock()
	first := !p.stopped
	p.stopped = true
	p.mu.Unlock()
	if !first {
		return
	}
	close(p.over)
	p.done.Wait()
	if p.shown {
		_, _ = io.WriteString(p.w, clearLine) // nobody sees it, nobody misses it
	}
}

func (p *progress) run() {
	timer := time.NewTimer(patientTime)
	defer timer.Stop()
	for last := ""; ; timer.Reset(progressTime) {
		select {
		case <-p.over:
			return
		case <-timer.C:
		}
		p.mu.Lock()
		text := p.text
		p.mu.Unlock()
		if text == last {
			continue
		}
		last, p.shown = text, true
		_, _ = io.WriteString(p.w, clearLine+clip(text, p.width-1))
	}
}

// clip returns as much of text as fits width columns, all where that is not
// positive.
func clip(text string, width int) string {
	if r := []rune(text); width > 0 && len(r) > width {
		return string(r[:width-1]) + "…"
	}
	return text
}
