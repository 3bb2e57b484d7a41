// SPDX-License-Identifier: Apache-2.0

package netlab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// outputDelay bounds the wait for the end of a program's output after its own.
const outputDelay = 2 * time.Second

// A Process is a program that runs in a namespace. It is killed when its lab
// is closed, and when this process dies. It is safe for concurrent use.
type Process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended and its output is complete

	mu     sync.Mutex
	output bytes.Buffer
	grown  chan struct{} // closed and replaced with each piece of output
	tee    io.Writer
	err    error // of Wait; valid once done is closed
}

// Start starts cmd in the namespace. Where cmd's Stdout or Stderr is nil, what
// the program writes is collected: see Output; where it is set, it is written
// there as well, without locking other than the process's own.
func (n *Namespace) Start(cmd *exec.Cmd) (*Process, error) {
	p := &Process{
		name:  n.Name + ": " + cmd.Path,
		cmd:   cmd,
		done:  make(chan struct{}),
		grown: make(chan struct{}),
		tee:   cmd.Stdout,
	}
	cmd.Stdout = p
	if cmd.Stderr == nil {
		cmd.Stderr = p
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	// The signal comes when the thread that started the process ends. Go ends
	// no thread but one that a goroutine left locked, so that is when we die.
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if cmd.WaitDelay == 0 {
		// A grandchild that kept the output open must not hold Close up.
		cmd.WaitDelay = outputDelay
	}
	if err := n.Do(cmd.Start); err != nil {
		return nil, n.fail(err, "start %s", cmd.Path)
	}
	go func() {
		err := cmd.Wait()
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
		close(p.done)
	}()
	return p, n.lab.own(func() error {
		p.kill()
		return nil
	})
}

// Run runs cmd in the namespace until it ends and returns what it wrote to its
// standard output and error.
func (n *Namespace) Run(cmd *exec.Cmd) (string, error) {
	p, err := n.Start(cmd)
	if err != nil {
		return "", err
	}
	<-p.done
	return p.Output(), p.err
}

// Write takes output of the program; it is for package exec alone.
func (p *Process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.output.Write(b)
	close(p.grown)
	p.grown = make(chan struct{})
	if p.tee != nil {
		return p.tee.Write(b)
	}
	return len(b), nil
}

// Output returns what the program has written so far.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

// PID returns the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended and its output is complete.
func (p *Process) Done() <-chan struct{} { return p.done }

// WaitLine waits for a complete line of output that match accepts, from the
// first line on, and returns it without its newline. It fails when the process
// ends without one or ctx does; the error holds the output.
func (p *Process) WaitLine(ctx context.Context, match func(line string) bool) (string, error) {
	seen := 0
	for {
		p.mu.Lock()
		out, grown := p.output.String(), p.grown
		p.mu.Unlock()
		ended := false
		select {
		case <-p.done:
			ended, out = true, p.Output()
		default:
		}
		for {
			i := strings.IndexByte(out[seen:], '\n')
			if i < 0 {
				break
			}
			line := out[seen : seen+i]
			seen += i + 1
			if match(line) {
				return line, nil
			}
		}
		if ended {
			return "", fmt.Errorf("%s ended (%s) without the line, output:\n%s", p.name, p.cmd.ProcessState, out)
		}
		select {
		case <-grown:
		case <-p.done:
		case <-ctx.Done():
			return "", fmt.Errorf("%s: wait for a line: %w, output:\n%s", p.name, context.Cause(ctx), out)
		}
	}
}

// Signal sends a signal. It is an error if the process has ended.
func (p *Process) Signal(s os.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("%s: signal: %w", p.name, err)
	}
	return nil
}

// Wait waits until the process has ended and returns its exit status, -1 if a
// signal ended it.
func (p *Process) Wait(ctx context.Context) (status int, err error) {
	select {
	case <-p.done:
	case <-ctx.Done():
		return -1, fmt.Errorf("%s: wait for its end: %w, output:\n%s", p.name, context.Cause(ctx), p.Output())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var exit *exec.ExitError
	if p.err != nil && !errors.As(p.err, &exit) {
		return -1, fmt.Errorf("%s: %w", p.name, p.err)
	}
	return p.cmd.ProcessState.ExitCode(), nil
}

// Stop sends SIGTERM and waits for the end. It returns the exit status.
func (p *Process) Stop(ctx context.Context) (status int, err error) {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return -1, err
	}
	return p.Wait(ctx)
}

// kill ends the process, if it runs, and waits for that.
func (p *Process) kill() {
	p.cmd.Process.Kill()
	<-p.done
}
