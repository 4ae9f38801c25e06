// Command ordinary is a front function as tutorials write it. It decodes the event and the whole webhook, checks the
// signature, and sends a message for each tool call. make bench compares the front function with it.
package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"log"
	"net/http"
	"os"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
)

type result struct {
	ToolCallID string `json:"toolCallId"`
	Result     string `json:"result"`
}

type function struct {
	client *sqs.Client
	queue  string
	secret []byte
}

func (f function) handle(ctx context.Context, r events.APIGatewayV2HTTPRequest) (
	response events.APIGatewayV2HTTPResponse, err error,
) {
	mac := hmac.New(sha256.New, f.secret)
	mac.Write([]byte(r.Headers["x-timestamp"] + "." + r.Body))
	if !hmac.Equal([]byte(r.Headers["x-signature"]), []byte(hex.EncodeToString(mac.Sum(nil)))) {
		response.StatusCode = http.StatusUnauthorized
		return response, nil
	}
	var body map[string]any
	if err := json.Unmarshal([]byte(r.Body), &body); err != nil {
		response.StatusCode = http.StatusBadRequest
		return response, nil
	}
	message, _ := body["message"].(map[string]any)
	call, _ := message["call"].(map[string]any)
	monitor, _ := call["monitor"].(map[string]any)
	toolCalls, _ := message["toolCallList"].([]any)
	var results []result
	for _, one := range toolCalls {
		toolCall, _ := one.(map[string]any)
		id, _ := toolCall["id"].(string)
		job, err := json.Marshal(map[string]any{
			"callId": call["id"], "controlUrl": monitor["controlUrl"], "toolCallId": id, "function": toolCall["function"],
		})
		if err != nil {
			return response, err
		}
		input := &sqs.SendMessageInput{QueueUrl: aws.String(f.queue), MessageBody: aws.String(string(job))}
		if _, err := f.client.SendMessage(ctx, input); err != nil {
			return response, err
		}
		results = append(results, result{id, "One moment, please."})
	}
	answer, err := json.Marshal(map[string]any{"results": results})
	response.StatusCode, response.Body = http.StatusOK, string(answer)
	response.Headers = map[string]string{"Content-Type": "application/json"}
	return response, err
}

func main() {
	c, err := config.LoadDefaultConfig(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	f := function{sqs.NewFromConfig(c), os.Getenv("JOBS_QUEUE_URL"), []byte(os.Getenv("WEBHOOK_SECRET"))}
	lambda.Start(f.handle)
}
