// SPDX-License-Identifier: Apache-2.0

// Package logging builds the logger that a program hands to its parts, and
// holds back messages that repeat. It owns the format of the lines and the way
// to the destination (stdout, syslog, or a file that it rotates), which never
// holds up who logs.
//
// It keeps no logger of its own, decides nothing about what is worth a line and
// never ends the process.
package logging

import (
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/sirupsen/logrus"
)

// A Kind tells where lines go.
type Kind uint8

// The kinds of destinations.
const (
	Stdout Kind = iota // Options.Stdout
	Syslog             // the syslog of this machine, by /dev/log
	File               // the file named by Options.Path
)

// Options says which lines are written, how, and where to.
type Options struct {
	Program string       // what syslog calls the program
	Level   logrus.Level // lines below it are not written
	JSON    bool         // one JSON object a line, instead of key=value text
	Kind    Kind
	Path    string // for File; made with mode 0640, less the umask
	MaxSize int64  // bytes at which a regular file is rotated; 0: never
	Backups int    // rotated files that are kept, 10000 at most; with 0 the file is emptied

	// Hold keeps a file from being rotated until Rotatable is called: what renames
	// and removes files is not for a process that is to give up privileges.
	Hold bool

	// Stdout is for Kind Stdout, Stderr for lines that syslog is not there to
	// take; os.Stdout and os.Stderr where nil. Prepare takes those of Open.
	Stdout, Stderr io.Writer

	socket string // of syslog, for tests
}

// sameDestination tells whether o and p write to the same place, so that one
// can follow the other with nothing opened.
func (o Options) sameDestination(p Options) bool {
	switch {
	case o.Kind != p.Kind:
		return false
	case o.Kind == Syslog:
		return o.Program == p.Program
	case o.Kind == File:
		return filepath.Clean(o.Path) == filepath.Clean(p.Path)
	}
	return true
}

// A Log is a logger with a destination behind it. No call of the logger waits
// for the destination: lines are queued, and those that find no room are
// counted and reported. Lines of more than 8 KiB have their values cut. All
// methods may be called concurrently.
type Log struct {
	*logrus.Logger
	lost  losses
	queue atomic.Pointer[queue]

	// mu guards what follows and lets one change after the other happen.
	mu      sync.Mutex
	options Options
}

// Open returns a Log that writes as o says. An error is about a file that
// cannot be opened: it names the file and wraps that of the system. Syslog that
// is not there is no error: lines go to stderr until it is.
func Open(o Options) (*Log, error) {
	if o.Stdout == nil {
		o.Stdout = os.Stdout
	}
	if o.Stderr == nil {
		o.Stderr = os.Stderr
	}
	if o.socket == "" {
		o.socket = devLog
	}
	l := &Log{Logger: newLogger(o.Level), options: o}
	q, err := l.newQueue(o)
	if err != nil {
		return nil, err
	}
	l.queue.Store(q)
	l.SetFormatter(intake{l})
	go q.run()
	return l, nil
}

func (l *Log) newQueue(o Options) (*queue, error) {
	switch o.Kind {
	case Syslog:
		return newQueue(newSyslog(o), o.JSON, &l.lost), nil
	case File:
		f, err := openFile(o)
		if err != nil {
			return nil, err
		}
		return newQueue(f, o.JSON, &l.lost), nil
	default:
		return newQueue(stream{o.Stdout}, o.JSON, &l.lost), nil
	}
}

// A Change is a new way for a Log that is ready but not taken. Either Commit or
// Discard must be called, once.
type Change struct {
	log     *Log
	options Options
	queue   *queue // nil where the destination stays
}

// Prepare opens what o needs and is not open yet. Nothing changes until Commit,
// so that a reload can be all or nothing. All of o may differ from what the Log
// has, save Stdout and Stderr. One Change at a time: until it is committed or
// discarded there must be no other.
func (l *Log) Prepare(o Options) (*Change, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o.Stdout, o.Stderr, o.socket = l.options.Stdout, l.options.Stderr, l.options.socket
	c := &Change{log: l, options: o}
	if o.sameDestination(l.options) {
		return c, nil
	}
	var err error
	c.queue, err = l.newQueue(o)
	return c, err
}

// Commit makes the change. Lines that are queued go to the old destination,
// before the first goes to the new one. An old destination that takes nothing
// for a second is given up; its lines count as lost.
func (c *Change) Commit() {
	l := c.log
	l.mu.Lock()
	defer l.mu.Unlock()
	l.options = c.options
	l.SetLevel(c.options.Level)
	old := l.queue.Load()
	if c.queue == nil {
		old.format.Store(newFormat(c.options.JSON))
		if f, ok := old.dest.(*file); ok {
			f.limit(c.options)
		}
		return
	}
	l.queue.Store(c.queue)
	_ = old.close() // what is lost is counted, and reported to the new destination
	go c.queue.run()
}

// Discard lets go of what Prepare opened, and removes a file that it made.
func (c *Change) Discard() {
	if c.queue == nil {
		return
	}
	if f, ok := c.queue.dest.(*file); ok {
		f.discard()
	}
}

// Reopen opens the log file by its name again, for the case that it was moved.
// The Log goes on with the old file if that is an error. Syslog is connected to
// anew, and the error says why it cannot be; for Stdout nothing happens. Reopen
// waits a second at most for a destination that is stuck, which is an error.
func (l *Log) Reopen() error {
	q := l.queue.Load()
	return q.do(q.dest.reopen)
}

// Chown gives the log file to a user and group, so that it can be opened and
// rotated after the process has become that user. It does nothing for what is
// not a regular file, and refuses a link. It waits as Reopen does.
func (l *Log) Chown(uid, gid int) error {
	return l.file(func(f *file) error { return f.chown(uid, gid) })
}

// Reopenable returns an error that says why the process as it is now could not
// open the log file anew, where that is a regular file. It waits as Reopen does.
func (l *Log) Reopenable() error {
	return l.file((*file).reopenable)
}

// Rotatable returns an error that says why the log file cannot be rotated by
// the process as it is now, if it is to be and cannot. It tries to make a file
// in the directory. It ends Options.Hold, and waits as Reopen does.
func (l *Log) Rotatable() error {
	return l.file((*file).rotatable)
}

// file lets fn have the log file, in the goroutine that owns it.
func (l *Log) file(fn func(*file) error) error {
	q := l.queue.Load()
	f, ok := q.dest.(*file)
	if !ok {
		return nil
	}
	return q.do(func() error { return fn(f) })
}

// Lost returns how many lines were lost since Open, be it for want of room or
// because the destination refused them.
func (l *Log) Lost() uint64 { return l.lost.total.Load() }

// Close writes what is queued, waiting a second at most; what is logged after
// it is written nowhere. It returns an error if lines were lost that no line
// reports.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.queue.Load().close()
}

// A stream is a destination that somebody else opened and closes.
type stream struct{ io.Writer }

func (s stream) start(composer) {}

func (s stream) write(l line) error {
	_, err := s.Write(l.text)
	return err
}

func (s stream) reopen() error { return nil }

func (s stream) close() error { return nil }

// newLogger returns a logger that writes nothing.
func newLogger(level logrus.Level) *logrus.Logger {
	log := logrus.New()
	log.SetOutput(io.Discard)
	log.SetLevel(level)
	return log
}

// Discard returns a logger that writes nothing.
func Discard() logrus.FieldLogger {
	return newLogger(logrus.PanicLevel)
}

// OrDiscard returns log, or a logger that writes nothing where log is nil, so
// that constructors can take no logger at all.
func OrDiscard(log logrus.FieldLogger) logrus.FieldLogger {
	if log == nil {
		return Discard()
	}
	return log
}
