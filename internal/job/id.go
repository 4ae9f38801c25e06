package job

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"strings"

	"github.com/ringback/ringback/internal/jsonscan"
)

// idLabel separates the ids of jobs from other hashes. Another label makes another job of a tool call.
const idLabel = "ringback/job/1"

const (
	idPrefix = "j_"
	idLength = 26 // characters of 5 bits after the prefix
)

const idAlphabet = "abcdefghijklmnopqrstuvwxyz234567"

var idEncoding = base32.NewEncoding(idAlphabet).WithPadding(base32.NoPadding)

// ID returns the id of the job of a tool call. Models reuse tool call ids, so the id depends on the
// tool and on its arguments, too. Arguments that are equal as JSON make the same id, in any order of
// their members: see [jsonscan.Canonical].
//
// The id is a hash. It is the only name of the job that third parties get, and does not reveal the
// call.
func ID(callID, toolCallID, tool string, arguments []byte) string {
	parts := [...]string{idLabel, callID, toolCallID, tool, string(jsonscan.Canonical(arguments))}
	size := 0
	for _, part := range parts {
		size += 8 + len(part)
	}
	hashed := make([]byte, 0, size)
	for _, part := range parts {
		// The length keeps the parts apart.
		hashed = append(binary.BigEndian.AppendUint64(hashed, uint64(len(part))), part...)
	}
	sum := sha256.Sum256(hashed)
	return idPrefix + idEncoding.EncodeToString(sum[:])[:idLength]
}

// EarlierID returns the id that an earlier version gave to the job of a tool call. Such a job keeps it.
func EarlierID(callID, toolCallID string) string { return callID + "/" + toolCallID }

// isID reports whether an id is one of [ID].
func isID(id string) bool {
	hash, ok := strings.CutPrefix(id, idPrefix)
	return ok && len(hash) == idLength && strings.Trim(hash, idAlphabet) == ""
}

// fits reports whether an id is that of a job, and of this call if it names one.
func fits(id, callID, toolCallID string) bool {
	return isID(id) || id == EarlierID(callID, toolCallID)
}

// nameInCall returns the name of a job in the record of its call: its id, or the tool call's id if the
// job has an [EarlierID].
func nameInCall(callID, jobID string) string { return strings.TrimPrefix(jobID, callID+"/") }

// idOfName is the reverse of [nameInCall].
func idOfName(callID, name string) string {
	if isID(name) {
		return name
	}
	return EarlierID(callID, name)
}
