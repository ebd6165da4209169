package com.example.products;

import jakarta.validation.constraints.NotBlank;
import jakarta.validation.constraints.NotNull;
import jakarta.validation.constraints.Positive;
import java.math.BigDecimal;
import org.springframework.data.annotation.Id;

public record Product(@Id Long id, @NotBlank String name, @NotNull @Positive BigDecimal price) {}
