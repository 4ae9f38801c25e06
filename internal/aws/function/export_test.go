package function

// LoadAuthorities is what ConnectSQS does beside an encrypted connection.
var LoadAuthorities = loadAuthorities
