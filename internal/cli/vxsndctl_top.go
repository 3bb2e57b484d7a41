// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"io"
	"math"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"vxsnd/internal/process"
)

var topCommand = ctlCommand{
	name: "top", doc: "the VXLANs with the most copies a second, live",
	more: "On a terminal it goes on until q is hit or it is interrupted. To a file or a pipe it prints " +
		"one block, or as many as -n says. With --json each block is one line.",
	flags: func(fs *pflag.FlagSet) {
		intervalFlag(fs, "interval", "i", 2*time.Second, "look every so many `SECONDS`")
		numberFlag(fs, "number", "n", 0, 1, math.MaxInt32, "end after `COUNT` looks")
	},
	run: runTop,
}

func runTop(ctx context.Context, c *ctlCall) error {
	interval, _ := flagValueOf[time.Duration](c, "interval")
	count, _ := flagValueOf[int](c, "number")
	ctx, release := untilSignal(ctx)
	defer release()
	if err := c.verify(ctx); err != nil {
		return err
	}
	v := &topView{terminal: c.terminal, interval: interval, order: byCopies}
	look := c.topBlocks
	// A dumb terminal cannot take the cursor anywhere.
	if kind := os.Getenv("TERM"); c.terminal.on && c.format == formatText && kind != "" && kind != "dumb" {
		look = c.topLive
	}
	err := look(ctx, v, count)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// topBlocks prints a block for each interval.
func (c *ctlCall) topBlocks(ctx context.Context, v *topView, count int) error {
	before, err := c.sample(ctx, nil)
	if err != nil {
		return err
	}
	tick := time.NewTicker(v.interval)
	defer tick.Stop()
	for i := range max(count, 1) {
		p := c.progress("looking for %v", v.interval)
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
		p.stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		now, err := c.sample(ctx, nil)
		if err != nil {
			return err
		}
		v.look(before, now)
		before = now
		text := v.block()
		if c.format != formatText {
			if text, err = v.json(); err != nil {
				return err
			}
		} else if i > 0 {
			text = "\n" + text
		}
		if _, err := io.WriteString(c.out, text); err != nil {
			return err
		}
	}
	return nil
}

// topLive shows the figures on the terminal, until the user has seen enough.
func (c *ctlCall) topLive(ctx context.Context, v *topView, count int) error {
	// Nothing is drawn before the daemon has answered: what is wrong is said on the
	// screen that the user has.
	before, err := c.sample(ctx, nil)
	if err != nil {
		return err
	}
	v.look(nil, before)

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH, syscall.SIGCONT)
	defer signal.Stop(resized)
	stopped := make(chan os.Signal, 1)
	signal.Notify(stopped, syscall.SIGTSTP)
	defer signal.Stop(stopped)
	k := newKeyboard(cancel)
	defer k.close()
	// Deferred, so that the terminal is as it was also after a panic.
	defer io.WriteString(c.out, screenLeave)
	if _, err := io.WriteString(c.out, screenEnter); err != nil {
		return err
	}
	tick := time.NewTicker(v.interval)
	defer tick.Stop()
	for looks := 0; ; {
		v.terminal = terminalOf(c.out)
		if v.width <= 0 || v.height <= 0 {
			v.width, v.height = 80, 24
		}
		if _, err := io.WriteString(c.out, v.frame(time.Now())); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case key := <-k.keys:
			if key != keyStop {
				v.press(key)
				// To all of the job, as the terminal would: sudo has to stop, too.
			} else if err := c.pauseTop(k, 0, resized); err != nil {
				return err
			}
			continue
		case <-stopped:
			if err := c.pauseTop(k, os.Getpid(), resized); err != nil {
				return err
			}
		case s := <-resized:
			// Whoever stopped the program has left the terminal to others.
			if s == syscall.SIGCONT {
				if err := c.resumeTop(k); err != nil {
					return err
				}
			}
		case <-tick.C:
			now, err := c.sample(ctx, nil)
			if err != nil && ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return err
			}
			v.look(before, now)
			before = now
			if looks++; looks == count {
				return nil
			}
		}
	}
}

// stopTime is how long the kernel may take to stop a program that asks for it. One
// that nobody could have go on is not stopped.
const stopTime = 100 * time.Millisecond

// pauseTop gives the terminal back and stops pid, as kill has it: this process or
// all of its job, as Ctrl-Z does, which a terminal in raw mode does not do by
// itself. It returns when the program is told to go on.
func (c *ctlCall) pauseTop(k *keyboard, pid int, goOn <-chan os.Signal) error {
	if _, err := io.WriteString(c.out, screenLeave); err != nil {
		return err
	}
	k.release()
	restore, err := process.StopBySignal()
	if err != nil {
		return err
	}
	defer restore()
	if err := syscall.Kill(pid, syscall.SIGTSTP); err != nil {
		return err
	}
	select {
	case <-goOn:
	case <-time.After(stopTime):
	}
	return c.resumeTop(k)
}

// resumeTop takes the terminal again.
func (c *ctlCall) resumeTop(k *keyboard) error {
	k.grab()
	_, err := io.WriteString(c.out, screenEnter)
	return err
}

// press does what a key is for.
func (v *topView) press(k key) {
	page := max(v.height-10, 1)
	switch k {
	case keyRight:
		v.order, v.offset = (v.order+1)%numOrders, 0
	case keyLeft:
		v.order, v.offset = (v.order+numOrders-1)%numOrders, 0
	case keyUp:
		v.offset--
	case keyDown:
		v.offset++
	case keyPageUp:
		v.offset -= page
	case keyPageDown:
		v.offset += page
	case keyHome:
		v.offset = 0
	case keyEnd:
		v.offset += len(v.rates.VNIs)
	}
}
