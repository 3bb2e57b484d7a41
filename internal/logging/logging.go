// SPDX-License-Identifier: Apache-2.0

// Package logging builds the logger that a program hands to its parts, and
// holds back messages that repeat. It owns the format of the lines, the meaning
// of the levels, and the way to the destination, which never holds up who logs.
//
// It keeps no logger of its own, decides nothing about what is worth a line and
// never ends the process.
package logging

import (
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/config"
)

// fileMode lets the group read the log: it names addresses of customers'
// networks, which are not for everybody.
const fileMode = 0o640

// timeFormat is RFC 3339 with milliseconds, local time with its offset.
const timeFormat = "2006-01-02T15:04:05.000Z07:00"

// Options says where the lines go and which of them.
type Options struct {
	Level  config.LogLevel
	Dest   config.LogDest
	Stdout io.Writer // for DestStdout; os.Stdout where nil
}

// Open returns a logger for the destination and what closes it. No call of the
// logger waits for the destination: lines are queued, and those that find no
// room are counted and reported. Close writes what is queued, waiting a second
// at most; a logger that is used after it writes nothing.
//
// Lines to a file are appended; a file that does not exist is made with mode
// 0640, less the umask. For DestSyslog the lines go to stdout. The error names
// the file and wraps that of the system.
func Open(o Options) (*logrus.Logger, io.Closer, error) {
	out := o.Stdout
	if out == nil {
		out = os.Stdout
	}
	var file *os.File
	if o.Dest.Kind == config.DestFile {
		// O_NONBLOCK is for a FIFO that nobody reads: that is an error, not a
		// reason to wait for ever.
		f, err := os.OpenFile(o.Dest.Path, os.O_APPEND|os.O_CREATE|os.O_WRONLY|syscall.O_NONBLOCK, fileMode)
		if err != nil {
			return nil, nil, fmt.Errorf("open log file: %w", err)
		}
		out, file = f, f
	}
	log := newLogger(io.Discard, Level(o.Level))
	q := newQueue(out, func(count uint64) []byte { return lostLine(log, count) })
	log.SetOutput(q)
	return log, &closer{log, q, file}, nil
}

// lostLine makes the line that reports count lost ones.
func lostLine(log *logrus.Logger, count uint64) []byte {
	b, err := log.Formatter.Format(&logrus.Entry{
		Logger: log, Time: time.Now(), Level: logrus.WarnLevel,
		Message: "log lines lost", Data: logrus.Fields{"count": count},
	})
	if err != nil {
		return nil
	}
	return b
}

// A closer ends a logger from its front to its end, so that no late line finds
// a part of it closed.
type closer struct {
	log   *logrus.Logger
	queue *queue
	file  *os.File // nil for stdout
}

func (c *closer) Close() error {
	c.log.SetOutput(io.Discard)
	if err := c.queue.Close(); err != nil || c.file == nil {
		return err
	}
	return c.file.Close()
}

func newLogger(out io.Writer, level logrus.Level) *logrus.Logger {
	log := logrus.New()
	log.SetOutput(out)
	log.SetLevel(level)
	log.SetFormatter(&logrus.TextFormatter{
		DisableColors:   true,
		FullTimestamp:   true,
		TimestampFormat: timeFormat,
	})
	return log
}

// Level returns the threshold of logrus for l. logrus has no critical level:
// below that threshold is everything but its fatal and panic lines.
func Level(l config.LogLevel) logrus.Level {
	switch l {
	case config.LevelDebug:
		return logrus.DebugLevel
	case config.LevelInfo:
		return logrus.InfoLevel
	case config.LevelWarning:
		return logrus.WarnLevel
	case config.LevelError:
		return logrus.ErrorLevel
	default:
		return logrus.FatalLevel
	}
}

// Discard returns a logger that writes nothing.
func Discard() logrus.FieldLogger {
	return newLogger(io.Discard, logrus.PanicLevel)
}

// OrDiscard returns log, or a logger that writes nothing where log is nil, so
// that constructors can take no logger at all.
func OrDiscard(log logrus.FieldLogger) logrus.FieldLogger {
	if log == nil {
		return Discard()
	}
	return log
}
