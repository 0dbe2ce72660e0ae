<?php

// What the pages need.

declare(strict_types=1);

function e(string|int $text): string
{
    return htmlspecialchars((string) $text, ENT_QUOTES | ENT_SUBSTITUTE, 'UTF-8');
}

function won(int $amount): string
{
    return number_format($amount) . '원';
}

/** Writes a barcode's number in groups of four, so that it can be read aloud. */
function groups(string $number): string
{
    return implode(' ', str_split($number, 4));
}

function until(int $time): string
{
    return (new DateTimeImmutable("@$time"))->setTimezone(new DateTimeZone('Asia/Seoul'))->format('Y년 n월 j일 H:i까지');
}

/** Sends a page: a template of this folder, with its variables. */
function send_page(int $status, string $template, string $title, array $variables = []): void
{
    extract($variables);
    ob_start();
    require __DIR__ . "/templates/$template.php";
    $main = ob_get_clean();
    http_response_code($status);
    header('Content-Type: text/html; charset=utf-8');
    require __DIR__ . '/templates/layout.php';
}

function send_problem(int $status, string $text): void
{
    send_page($status, 'problem', $text);
}

/** @param array<string, mixed> $fields */
function send_json(int $status, array $fields): void
{
    http_response_code($status);
    header('Content-Type: application/json');
    echo json_encode($fields, JSON_UNESCAPED_UNICODE | JSON_THROW_ON_ERROR);
}

function redirect(string $path): void
{
    http_response_code(303);
    header("Location: $path");
}
