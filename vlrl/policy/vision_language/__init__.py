"""The policy of vision-language models: text answers to images and videos."""
