package wire

// Message types that clients send (PostgreSQL 17, chapter 53.7).
const (
	Bind            = 'B'
	Close           = 'C'
	CopyData        = 'd'
	CopyDone        = 'c'
	CopyFail        = 'f'
	Describe        = 'D'
	Execute         = 'E'
	Flush           = 'H'
	FunctionCall    = 'F'
	Parse           = 'P'
	PasswordMessage = 'p' // also SASLInitialResponse and SASLResponse
	Query           = 'Q'
	Sync            = 'S'
	Terminate       = 'X'
)

// Message types that servers send.
const (
	Authentication           = 'R'
	BackendKeyData           = 'K'
	BindComplete             = '2'
	CloseComplete            = '3'
	CommandComplete          = 'C'
	CopyBothResponse         = 'W'
	CopyInResponse           = 'G'
	CopyOutResponse          = 'H'
	DataRow                  = 'D'
	EmptyQueryResponse       = 'I'
	ErrorResponse            = 'E'
	FunctionCallResponse     = 'V'
	NegotiateProtocolVersion = 'v'
	NoData                   = 'n'
	NoticeResponse           = 'N'
	NotificationResponse     = 'A'
	ParameterDescription     = 't'
	ParameterStatus          = 'S'
	ParseComplete            = '1'
	PortalSuspended          = 's'
	ReadyForQuery            = 'Z'
	RowDescription           = 'T'
)

// TxStatus is the transaction status in ReadyForQuery.
type TxStatus byte

// The transaction states.
const (
	Idle     TxStatus = 'I'
	InTx     TxStatus = 'T'
	FailedTx TxStatus = 'E'
)

// MaxMessage is the largest length field accepted, 1 GiB - 1 (PostgreSQL's own
// limit for an allocation, PQ_LARGE_MESSAGE_LIMIT).
const MaxMessage = 1<<30 - 1

// Header is the start of a message: its type byte and the length of its body in
// bytes (the length field less its own four).
type Header struct {
	Type byte
	Len  int
}
