// SPDX-License-Identifier: Apache-2.0

package logging

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
)

const (
	// timeFormat is RFC 3339 with milliseconds, local time with its offset.
	timeFormat = "2006-01-02T15:04:05.000Z07:00"

	// maxLine bounds the bytes of a line, and with maxQueued the memory of a
	// queue. RFC 3164 knows 1024, journald and rsyslog take 8 KiB at least.
	maxLine = 8192

	// cutMark stands for the end of a value that was cut.
	cutMark = "..."
)

// A line is what a destination gets: its text ends with a newline and has no
// other.
type line struct {
	level logrus.Level
	time  time.Time
	text  []byte
}

// A composer makes the lines that the package itself has to say, in the format
// of all others.
type composer func(level logrus.Level, message string, fields logrus.Fields) line

// A format turns what was logged into lines.
type format struct{ logrus.Formatter }

func newFormat(json bool) *format {
	if json {
		return &format{&jsonFormatter{logrus.JSONFormatter{TimestampFormat: timeFormat, DisableHTMLEscape: true}}}
	}
	return &format{&logrus.TextFormatter{DisableColors: true, FullTimestamp: true, TimestampFormat: timeFormat}}
}

// A jsonFormatter writes values as text has them: a duration or an address of
// package net would else be a number or a struct. What is a number in text
// stays one.
type jsonFormatter struct{ logrus.JSONFormatter }

func (f *jsonFormatter) Format(e *logrus.Entry) ([]byte, error) {
	data := make(logrus.Fields, len(e.Data))
	for key, value := range e.Data {
		switch value.(type) {
		case error, json.Marshaler, encoding.TextMarshaler:
		case fmt.Stringer:
			if text := fmt.Sprint(value); text != fmt.Sprintf("%d", value) {
				value = text
			}
		}
		data[key] = value
	}
	c := *e
	c.Data = data
	return f.JSONFormatter.Format(&c)
}

// line formats e. Where the result is too long, or a value cannot be written as
// JSON, all values become strings, shorter with each attempt: a line that is
// cut in the middle would not be JSON any more.
func (f *format) line(e *logrus.Entry) line {
	text, err := f.Format(e)
	for limit := maxLine / 2; limit > 0 && (err != nil || len(text) > maxLine); limit /= 2 {
		text, err = f.Format(shortened(e, limit))
	}
	return line{e.Level, e.Time, bytes.Clone(text)}
}

func shortened(e *logrus.Entry, limit int) *logrus.Entry {
	s := &logrus.Entry{Logger: e.Logger, Time: e.Time, Level: e.Level, Message: cut(e.Message, limit), Data: maps.Clone(e.Data)}
	for key, value := range s.Data {
		s.Data[key] = cut(fmt.Sprint(value), limit)
	}
	return s
}

// cut shortens s to limit bytes and a mark, between characters.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + cutMark
}

// An intake is the end of a logrus logger: formatting is the one place where
// the level of a line is known still, and where the format is sure to be that
// of the queue that the line goes to, even while a Change is made.
type intake struct{ log *Log }

// Format queues e and leaves nothing for the logger to write.
func (in intake) Format(e *logrus.Entry) ([]byte, error) {
	for {
		q := in.log.queue.Load()
		if q.put(q.format.Load().line(e)) || q == in.log.queue.Load() {
			return nil, nil
		}
		e.Buffer.Reset() // the queue was exchanged meanwhile, take the new one
	}
}
