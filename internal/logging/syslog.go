// SPDX-License-Identifier: Apache-2.0

package logging

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
)

const (
	// devLog is where syslogd and journald listen.
	devLog = "/dev/log"

	// facility is daemon: RFC 3164, section 4.1.1.
	facility = 3 << 3

	// dialAgain is how long nobody looks for a syslog that is not there.
	dialAgain = time.Second
)

// A syslog is the syslog of this machine. The standard library's log/syslog
// waits for ever for a syslogd that hangs.
type syslog struct {
	program string
	socket  string
	stderr  io.Writer
	compose composer

	conn      net.Conn // nil while there is none
	end       string   // what ends a message on conn
	notBefore time.Time
	why       error // of the last attempt to reach it
	away      bool  // lines go to stderr, which was said
	count     uint64
}

// FindSyslog returns nil if the syslog of this machine takes connections, else
// an error that says why it cannot be reached.
func FindSyslog() error {
	s := &syslog{socket: devLog}
	if !s.connect() {
		return fmt.Errorf("reach syslog: %w", s.why)
	}
	return s.close()
}

func newSyslog(o Options) *syslog {
	return &syslog{program: o.Program, socket: o.socket, stderr: o.Stderr}
}

func (s *syslog) start(c composer) {
	s.compose = c
	if !s.connect() {
		s.leave()
	}
}

// write sends l. A connection that is broken, as after a restart of syslogd, is
// made anew for the same line; if that fails, the line goes to stderr. A
// syslogd that hangs costs the line, after a second.
func (s *syslog) write(l line) error {
	for range 2 {
		if !s.connect() {
			break
		}
		err := s.send(l)
		if err == nil {
			return nil
		}
		s.hangUp(err)
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, syscall.EMSGSIZE) || errors.Is(err, syscall.ENOBUFS) {
			return err
		}
	}
	s.leave()
	s.count++
	_, err := s.stderr.Write(l.text)
	return err
}

// connect makes the connection unless there is one, or was none lately.
func (s *syslog) connect() bool {
	if s.conn != nil {
		return true
	}
	if time.Now().Before(s.notBefore) {
		return false
	}
	// Some take a stream, as glibc's syslog(3) does too, with a zero byte after
	// each message.
	conn, err := net.DialTimeout("unixgram", s.socket, patience)
	s.end = ""
	if errors.Is(err, syscall.EPROTOTYPE) {
		conn, err = net.DialTimeout("unix", s.socket, patience)
		s.end = "\x00"
	}
	if err != nil {
		s.why, s.notBefore = err, time.Now().Add(dialAgain)
		return false
	}
	s.conn = conn
	if !s.away {
		return true
	}
	if err := s.send(s.compose(logrus.WarnLevel, "log lines go to syslog now", logrus.Fields{"stderr_lines": s.count})); err != nil {
		s.hangUp(err)
		s.notBefore = time.Now().Add(dialAgain)
		return false
	}
	s.away, s.count = false, 0
	return true
}

// leave says that lines go to stderr from now on.
func (s *syslog) leave() {
	if s.away {
		return
	}
	s.away = true
	l := s.compose(logrus.WarnLevel, "syslog cannot be reached, log lines go to stderr", logrus.Fields{logrus.ErrorKey: s.why})
	_, _ = s.stderr.Write(l.text) // the line that led to it tells whether stderr takes lines
}

// send writes l as RFC 3164 has it, with the parts that local programs send: no
// name of the machine.
func (s *syslog) send(l line) error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	_, err := fmt.Fprintf(s.conn, "<%d>%s %s[%d]: %s%s", facility|severity(l.level), l.time.Format(time.Stamp),
		s.program, os.Getpid(), withoutTime(l.text), s.end)
	return err
}

func (s *syslog) hangUp(err error) {
	s.conn.Close()
	s.conn, s.why = nil, err
}

func (s *syslog) reopen() error {
	if s.conn != nil {
		s.hangUp(nil)
	}
	s.notBefore = time.Time{}
	if !s.connect() {
		return fmt.Errorf("reach syslog: %w", s.why)
	}
	return nil
}

func (s *syslog) close() error {
	if s.conn == nil {
		return nil
	}
	return s.conn.Close()
}

// withoutTime returns text without what syslog adds itself.
func withoutTime(text []byte) []byte {
	text = bytes.TrimSuffix(text, []byte("\n"))
	if bytes.HasPrefix(text, []byte("time=")) {
		_, text, _ = bytes.Cut(text, []byte(" "))
	}
	return text
}

// severity is what RFC 3164 calls level: its section 4.1.1 has the numbers.
func severity(level logrus.Level) int {
	switch level {
	case logrus.PanicLevel, logrus.FatalLevel:
		return 2
	case logrus.ErrorLevel:
		return 3
	case logrus.WarnLevel:
		return 4
	case logrus.InfoLevel:
		return 6
	default:
		return 7
	}
}
